//! Whether the process holds a second OpenSSL, by the kernel's list of what is mapped.
//!
//! A copy that is linked statically into some other object has no file of its own, and is not seen.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use skytls::error::{Chain, Code, Error};

/// What stands for the copy inside this very library.
const BUILT_IN: &str = "the one built into libskytls";

/// Every libcrypto of the process; a built-in one is named by a phrase.
pub(crate) fn copies() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let files = libcryptos(&maps).into_iter().map(|path| path.display().to_string());
    match cfg!(feature = "vendored") {
        true => [BUILT_IN.to_owned()].into_iter().chain(files).collect(),
        false => files.collect(),
    }
}

/// Warns once in the life of a process if there is more than one.
pub(crate) fn warn_once() {
    static SAID: AtomicBool = AtomicBool::new(false);
    let copies = copies();
    if copies.len() > 1 && !SAID.swap(true, Ordering::Relaxed) {
        let error = Error::new(Code::TwoOpenSsls).found(copies.join(" and "));
        log::warn!("{}", Chain(&error));
    }
}

/// The files of libcrypto in a list of mappings. Wheels and bundles give theirs names such as
/// `libcrypto-3fa1b2c4.so.3`.
fn libcryptos(maps: &str) -> BTreeSet<PathBuf> {
    maps.lines()
        .filter_map(|line| line.split_once('/'))
        .map(|(_, path)| Path::new("/").join(path.trim_end_matches(" (deleted)")))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libcrypto") && name.contains(".so")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_told_by_their_files() {
        let maps = "\
7f00-7f01 r--p 00000000 08:01 12 /usr/lib/libcrypto.so.3
7f01-7f02 r-xp 00001000 08:01 12 /usr/lib/libcrypto.so.3
7f02-7f03 r-xp 00001000 08:01 13 /opt/host/lib/libcrypto-3fa1b2c4.so.3 (deleted)
7f03-7f04 r-xp 00001000 08:01 14 /usr/lib/libssl.so.3
7f04-7f05 r-xp 00001000 08:01 15 /usr/share/libcrypto.txt
7f05-7f06 rw-p 00000000 00:00 0 [heap]
";
        let found: Vec<_> = libcryptos(maps).into_iter().collect();
        let expected = ["/opt/host/lib/libcrypto-3fa1b2c4.so.3", "/usr/lib/libcrypto.so.3"];
        assert_eq!(found, expected.map(PathBuf::from));
    }
}
