//! Where files are: the agent folder and what a path in a setting means.
//!
//! Looks at the file system to choose, but opens nothing: whether a file is readable and holds what
//! it should is found out by whoever reads it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The places where a set path was looked for in vain.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nowhere {
    /// Under the agent folder.
    pub(super) inside: PathBuf,
    /// On the system, for an absolute path.
    pub(super) outside: Option<PathBuf>,
}

/// The agent folder: the parent of the folder of `agent.config` if that folder is called `config`,
/// else the folder of `agent.config` itself, else the working directory.
pub(super) fn agent_folder(config: Option<&Path>, directory: &Path) -> PathBuf {
    let Some(folder) = config.and_then(Path::parent) else { return directory.to_owned() };
    // Made absolute first: the `config` may lie in the working directory's name.
    let folder = directory.join(folder);
    // Compares components, so that a trailing `.` does not hide the name.
    match folder.parent() {
        Some(parent) if folder.file_name().is_some_and(|name| name == "config") => {
            parent.to_owned()
        }
        _ => folder,
    }
}

/// What a path that was *set* means. The agent folder comes first, as in Java, which joins
/// absolute paths to it too.
pub(super) fn resolve(folder: &Path, text: &str) -> Result<PathBuf, Nowhere> {
    let inside = join(folder, text);
    if !is_vacant(&inside) {
        return Ok(inside);
    }
    let outside = Path::new(text).is_absolute().then(|| PathBuf::from(text));
    match outside {
        Some(outside) if !is_vacant(&outside) => Ok(outside),
        outside => Err(Nowhere { inside, outside }),
    }
}

/// A path under the agent folder, whether or not something is there.
pub(super) fn join(folder: &Path, text: &str) -> PathBuf {
    folder.join(text.trim_start_matches('/'))
}

/// Whether there is nothing at all at the default CA path. A dangling link on the way, a file where
/// a folder should be, or a folder that may not be entered is a fault and not absence: the fault
/// must not turn TLS off.
pub(super) fn is_absent(folder: &Path, path: &Path) -> bool {
    let missing = |path: &Path| {
        fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    missing(path)
        && path
            .ancestors()
            .skip(1)
            .take_while(|ancestor| *ancestor != folder)
            // Either the folder exists, or its name is free too.
            .all(|ancestor| fs::metadata(ancestor).is_ok() || missing(ancestor))
}

/// The scheme of a key URI such as `pkcs11:…`, if the text looks like one and no file has that
/// name. One letter is a Windows drive.
pub(super) fn uri_scheme<'a>(folder: &Path, text: &'a str) -> Option<&'a str> {
    let (scheme, _) = text.split_once(':')?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(legal);
    (is_scheme && is_vacant(&join(folder, text))).then_some(scheme)
}

/// Whether a path names nothing, so that the next place may be tried. What exists but cannot be
/// looked at is not vacant: another file must not silently take its place.
fn is_vacant(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(config: &str) -> PathBuf {
        agent_folder(Some(Path::new(config)), Path::new("/work/config"))
    }

    #[test]
    fn the_agent_folder_follows_the_configuration_file() {
        assert_eq!(folder("/opt/agent/config/agent.config"), Path::new("/opt/agent"));
        assert_eq!(folder("/etc/skytls/agent.config"), Path::new("/etc/skytls"));
        assert_eq!(folder("agent.config"), Path::new("/work"));
        assert_eq!(folder("./agent.config"), Path::new("/work"));
        assert_eq!(folder("config/agent.config"), Path::new("/work/config"));
        assert_eq!(folder("/config/agent.config"), Path::new("/"));
        assert_eq!(agent_folder(None, Path::new("/work/config")), Path::new("/work/config"));
    }

    #[test]
    fn a_set_path_is_looked_up_in_the_agent_folder_first() {
        let temp = tempfile::tempdir().unwrap();
        let agent = temp.path().join("agent");
        let system = temp.path().join("system");
        fs::create_dir_all(agent.join("ca")).unwrap();
        fs::create_dir_all(&system).unwrap();
        fs::write(agent.join("ca/ca.crt"), "").unwrap();
        fs::write(system.join("x.pem"), "").unwrap();
        assert_eq!(resolve(&agent, "/ca/ca.crt"), Ok(agent.join("ca/ca.crt")));
        assert_eq!(resolve(&agent, "ca/ca.crt"), Ok(agent.join("ca/ca.crt")));
        let outside = system.join("x.pem");
        assert_eq!(resolve(&agent, outside.to_str().unwrap()), Ok(outside.clone()));
        let nowhere = resolve(&agent, "relative.pem").unwrap_err();
        assert_eq!(nowhere, Nowhere { inside: agent.join("relative.pem"), outside: None });
        let nowhere = resolve(&agent, "/no/such/file").unwrap_err();
        assert_eq!(nowhere.outside, Some("/no/such/file".into()));
    }

    #[cfg(unix)]
    #[test]
    fn only_nothing_at_all_is_absence() {
        use std::os::unix::fs::symlink;
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let folder = temp.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            let path = join(&folder, "/ca/ca.crt");
            (folder, path)
        };
        let (folder, path) = at("nothing");
        assert!(is_absent(&folder, &path));
        let (folder, path) = at("empty_folder");
        fs::create_dir(folder.join("ca")).unwrap();
        assert!(is_absent(&folder, &path));
        let (folder, path) = at("directory");
        fs::create_dir_all(&path).unwrap();
        assert!(!is_absent(&folder, &path));
        let (folder, path) = at("dangling_file");
        fs::create_dir(folder.join("ca")).unwrap();
        symlink("/no/such", &path).unwrap();
        assert!(!is_absent(&folder, &path));
        let (folder, path) = at("dangling_folder");
        symlink("/no/such", folder.join("ca")).unwrap();
        assert!(!is_absent(&folder, &path));
        let (folder, path) = at("file_for_folder");
        fs::write(folder.join("ca"), "").unwrap();
        assert!(!is_absent(&folder, &path));
    }

    #[test]
    fn key_uris_are_not_paths() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(uri_scheme(temp.path(), "pkcs11:object=x"), Some("pkcs11"));
        assert_eq!(uri_scheme(temp.path(), "C:\\ca.crt"), None);
        assert_eq!(uri_scheme(temp.path(), "ca/ca.crt"), None);
        assert_eq!(uri_scheme(temp.path(), "a/b:c"), None);
        fs::write(temp.path().join("odd:name"), "").unwrap();
        assert_eq!(uri_scheme(temp.path(), "odd:name"), None);
    }
}
