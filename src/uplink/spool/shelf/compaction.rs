//! Makes room: a file that is kept by a few records that wait for long is replaced by a copy of these.
//!
//! The copy says how many records it leaves out, so that those it has keep their numbers: whoever has them in memory
//! knows them by these, and the marks that there are hold for it as well. It is written beside the file, and takes
//! its name in one step: at whatever moment the process ends, one of the two is there.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::Shelf;
use super::place::Segment;
use crate::uplink::envelope::Passport;
use crate::uplink::spool::codec::{self, Item};
use crate::uplink::spool::segment::{self, Frame, HEAD, Writer};

/// Worth it when no more than one record in so many is left.
const FEW: u32 = 4;
/// What the name of a copy ends with until it takes that of the file.
pub(in crate::uplink::spool) const COPY: &str = "copy";

impl Shelf {
    /// Replaces one file; `false` if there is none that is worth it.
    pub(in crate::uplink::spool) fn compact(&mut self) -> io::Result<bool> {
        // What has not been read yet is not in memory, and the newest may be in use.
        let last = self.segments.back().map_or(0, |newest| newest.number).min(self.reading());
        let sparse =
            |one: &Segment| one.number < last && one.live > 0 && one.live <= one.kept / FEW;
        let Some(at) = self.segments.iter().position(sparse) else { return Ok(false) };
        let old = &self.segments[at];
        let path = self.path(old.number);
        let copy = path.with_extension(COPY);
        let written = write(&path, old, &copy).and_then(|len| {
            fs::rename(&copy, &path)?;
            Ok(len)
        });
        let len = written.inspect_err(|_| {
            // It is removed at the next start if not now.
            let _ = fs::remove_file(&copy);
        })?;
        let new = &mut self.segments[at];
        (new.len, new.kept) = (len, new.live);
        Ok(true)
    }
}

/// Copies the records of a file that are still to be sent; says how long the copy is. The disk has it then: it must
/// not take the place of a file that the disk has before.
fn write(path: &Path, old: &Segment, to: &Path) -> io::Result<u64> {
    let damaged = || io::Error::other("a file of the spool is damaged");
    let from = File::open(path)?;
    let _ = fs::remove_file(to);
    let mut writer = Writer::create(to, segment::WITH_GAPS)?;
    let mut passports: HashMap<u32, Passport> = HashMap::new();
    let (mut known, mut streams) = (HashSet::new(), HashSet::new());
    let (mut gap, mut index, mut at) = (0_u32, 0_u32, HEAD);
    loop {
        let mut frame = match segment::frame(&from, at, old.len)? {
            Frame::Whole(frame, next) => {
                at = next;
                frame
            }
            Frame::End => break,
            Frame::Torn => return Err(damaged()),
        };
        let mut out = Vec::new();
        codec::put_time(&mut out, codec::time(&mut frame).map_err(|_| damaged())?);
        let empty = out.len();
        while let Some(item) = codec::next(&mut frame).map_err(|_| damaged())? {
            match item {
                Item::Passport(number, passport) => {
                    passports.extend(passport.map(|passport| (number, *passport)));
                }
                Item::Record(number, stored) => {
                    if old.done.has(index) {
                        gap += 1;
                    } else {
                        let passport = passports.get(&number).ok_or_else(damaged)?;
                        if known.insert(number) {
                            codec::put_passport(&mut out, number, passport);
                        }
                        if gap > 0 {
                            codec::put_gap(&mut out, std::mem::take(&mut gap));
                        }
                        codec::put_record(&mut out, number, &stored);
                        streams.insert(stored.stream);
                    }
                    index += 1;
                }
                Item::Gap(records) => {
                    gap = gap.saturating_add(records);
                    index = index.saturating_add(records);
                }
                Item::End(stream) if streams.contains(&stream) => codec::put_end(&mut out, stream),
                Item::End(_) => {}
            }
        }
        if out.len() > empty {
            writer.append(&out)?;
        }
    }
    writer.sync()?;
    Ok(writer.len())
}
