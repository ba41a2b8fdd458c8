use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::protocol::find;
use crate::protocol::frame::Message;
use crate::uplink::sticky::Company;

mod safety;

const LARGE: u64 = 1 << 20;

fn passport() -> Arc<Passport> {
    Arc::new(Passport::new(find("/skywalking.v3.TraceSegmentReportService/collect").unwrap()))
}

fn stored(number: u32) -> Stored {
    let message = Message { compressed: false, data: number.to_be_bytes().to_vec().into() };
    let company = Company::Head(Bytes::new());
    Stored { stream: 0, company, prefix: Bytes::new(), message }
}

fn write(shelf: &mut Shelf, numbers: std::ops::Range<u32>, behind: bool) -> Place {
    write_at(shelf, numbers, 1000, LARGE, behind)
}

fn write_at(
    shelf: &mut Shelf,
    numbers: std::ops::Range<u32>,
    time: u64,
    segment: u64,
    behind: bool,
) -> Place {
    let passport = passport();
    let lines: Vec<Line<'_>> = numbers
        .map(|number| Line::Record { passport: &passport, stored: stored(number) })
        .collect();
    shelf.append(&lines, time, segment, behind).unwrap()
}

/// All that is left to be read, in its order; anything but records fails.
fn read(shelf: &mut Shelf) -> Vec<u32> {
    let mut numbers = Vec::new();
    loop {
        match shelf.read(0) {
            Read::Record { stored, passport: read, .. } => {
                assert_eq!(read, passport());
                numbers.push(u32::from_be_bytes(stored.message.data[..].try_into().unwrap()));
            }
            Read::Level => return numbers,
            Read::Gone(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Settles records; says how many of them were still to be sent.
fn settle(shelf: &mut Shelf, places: impl IntoIterator<Item = Place>) -> u64 {
    let before = shelf.durable();
    let mut places: Vec<Place> = places.into_iter().collect();
    shelf.settle(&mut places).unwrap();
    assert!(places.is_empty(), "all of them are marked");
    before - shelf.durable()
}

fn reopen(folder: &Path) -> (Shelf, u64) {
    let mut shelf = Shelf::new(Kind::Trace, folder, SpoolSync::Interval);
    let mut files: Vec<u64> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| Shelf::parse(entry.unwrap().file_name().to_str()?))
        .map(|(_, number)| number)
        .collect();
    files.sort_unstable();
    let found = files.into_iter().map(|number| shelf.take_over(number, 1).unwrap()).sum();
    (shelf, found)
}

fn only_file(folder: &TempDir) -> PathBuf {
    folder.path().join(Shelf::name(Kind::Trace, 1))
}

#[test]
fn what_was_written_is_found_again_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    // Files of at most two frames, some of them read before the next is written.
    for batch in 0..10 {
        write_at(&mut shelf, batch * 10..batch * 10 + 10, 1, 200, batch >= 3);
    }
    assert!(shelf.files() > 3);
    assert_eq!(read(&mut shelf), (30..100).collect::<Vec<u32>>());
    drop(shelf);
    let (mut shelf, found) = reopen(folder.path());
    assert_eq!(found, 100);
    write(&mut shelf, 100..110, false);
    assert_eq!(read(&mut shelf), (0..110).collect::<Vec<u32>>());
}

#[test]
fn what_is_done_does_not_come_back_and_its_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    let place = write(&mut shelf, 0..10, false);
    let at = |index| Place { index, ..place };
    assert_eq!(settle(&mut shelf, [at(3), at(4), at(9), at(4)]), 3);
    assert_eq!(settle(&mut shelf, [at(3), at(0)]), 1);
    drop(shelf);
    let (mut shelf, found) = reopen(folder.path());
    assert_eq!(found, 6);
    assert_eq!(read(&mut shelf), [1, 2, 5, 6, 7, 8]);
    settle(&mut shelf, [1, 2, 5, 6, 7, 8].map(at));
    assert_eq!((shelf.files(), shelf.bytes()), (0, 0));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_is_done_does_not_come_back_while_its_file_is_in_use() {
    for behind in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(Kind::Meter, folder.path(), SpoolSync::Interval);
        let place = write(&mut shelf, 0..10, behind);
        if behind {
            (0..10).for_each(|_| assert!(matches!(shelf.read(0), Read::Record { .. })));
        }
        let all = (0..10).map(|index| Place { index, ..place });
        assert_eq!(settle(&mut shelf, all), 10);
        // More would be added to it; but the process is killed.
        assert_eq!(shelf.files(), 1);
        drop(shelf);
        let mut again = Shelf::new(Kind::Meter, folder.path(), SpoolSync::Interval);
        assert_eq!(again.take_over(place.segment, 1).unwrap(), 0, "behind: {behind}");
    }
}

#[test]
fn a_file_cut_at_any_byte_of_its_last_frame_keeps_the_frames_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    write(&mut shelf, 0..20, false);
    let whole = fs::read(only_file(&folder)).unwrap().len();
    write(&mut shelf, 20..30, false);
    drop(shelf);
    let bytes = fs::read(only_file(&folder)).unwrap();
    for len in whole..bytes.len() {
        let cut = tempfile::tempdir().unwrap();
        fs::write(only_file(&cut), &bytes[..len]).unwrap();
        let (mut shelf, found) = reopen(cut.path());
        assert_eq!(found, 20, "cut at {len}");
        // What is written now is not mistaken for the rest of it.
        write(&mut shelf, 50..52, true);
        let expected: Vec<u32> = (0..20).chain(50..52).collect();
        assert_eq!(read(&mut shelf), expected, "cut at {len}");
        drop(shelf);
        assert_eq!(reopen(cut.path()).1, 22, "cut at {len}, then once more");
    }
}

#[test]
fn a_changed_byte_or_zeros_never_make_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    write(&mut shelf, 0..20, false);
    let whole = fs::read(only_file(&folder)).unwrap().len();
    write(&mut shelf, 20..30, false);
    drop(shelf);
    let bytes = fs::read(only_file(&folder)).unwrap();
    for at in whole..bytes.len() {
        for change in [|byte: u8| byte ^ 1, |byte: u8| byte ^ 0x80] {
            let mut changed = bytes.clone();
            changed[at] = change(changed[at]);
            let other = tempfile::tempdir().unwrap();
            fs::write(only_file(&other), &changed).unwrap();
            assert_eq!(reopen(other.path()).1, 20, "byte {at}");
        }
    }
    let mut zeros = bytes[..whole].to_vec();
    zeros.extend([0; 4096]);
    fs::write(only_file(&folder), zeros).unwrap();
    assert_eq!(reopen(folder.path()).1, 20);
}

#[test]
fn marks_cut_at_any_byte_only_make_records_come_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    let place = write(&mut shelf, 0..10, false);
    let at = |index| Place { index, ..place };
    settle(&mut shelf, [at(0), at(1), at(2)]);
    settle(&mut shelf, [at(7)]);
    drop(shelf);
    let marks = segment::marks_path(&only_file(&folder));
    let bytes = fs::read(&marks).unwrap();
    for len in 0..bytes.len() {
        fs::write(&marks, &bytes[..len]).unwrap();
        let (mut shelf, found) = reopen(folder.path());
        assert_eq!(found, if len < 12 { 10 } else { 7 }, "cut at {len}");
        assert!(read(&mut shelf).contains(&7));
        // A mark that is added now counts.
        settle(&mut shelf, [at(9)]);
        drop(shelf);
        assert_eq!(reopen(folder.path()).1, found - 1, "cut at {len}");
    }
}

#[test]
fn a_file_of_a_later_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    write(&mut shelf, 0..10, false);
    drop(shelf);
    let mut bytes = fs::read(only_file(&folder)).unwrap();
    bytes[8] += 2;
    fs::write(only_file(&folder), &bytes).unwrap();
    let error =
        Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval).take_over(1, 1).unwrap_err();
    assert_eq!(error.code(), Code::SpoolNewer);
    assert_eq!(fs::read(only_file(&folder)).unwrap(), bytes);
    bytes[8] -= 2;
    fs::write(only_file(&folder), &bytes).unwrap();
    assert_eq!(reopen(folder.path()).1, 10);
}

#[test]
fn a_file_without_a_sound_head_is_put_aside() {
    for (bytes, left) in [(&b"SKT"[..], 0), (&[0; 64][..], 1), (&b"something else entirely"[..], 1)]
    {
        let folder = tempfile::tempdir().unwrap();
        fs::write(only_file(&folder), bytes).unwrap();
        let (mut shelf, found) = reopen(folder.path());
        assert_eq!(found, 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), left, "{bytes:?}");
        write(&mut shelf, 0..5, false);
        drop(shelf);
        assert_eq!(reopen(folder.path()).1, 5);
    }
}

/// A file as the first version wrote it; the test only reads it.
#[test]
fn files_of_version_1_are_read() {
    let head = [&b"SKTSPOOL"[..], &1_u32.to_le_bytes(), &[0; 4]].concat();
    let path = b"/skywalking.v3.TraceSegmentReportService/collect";
    let mut frame = 1_700_000_000_000_u64.to_le_bytes().to_vec();
    // A passport: its number, path, no encoding, no metadata.
    frame.extend([0, 0, 0, 0, 0, 48, 0]);
    frame.extend(path);
    frame.extend([0, 0, 0, 0]);
    // A record: its passport, flags, stream, head, prefix, data.
    frame.extend([1, 0, 0, 0, 0, 0]);
    frame.extend([0; 8]);
    frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 77]);
    let crc = crc32fast::hash(&frame);
    let len = u32::try_from(frame.len()).unwrap();
    let file = [&head[..], &len.to_le_bytes(), &crc.to_le_bytes(), &frame].concat();
    let folder = tempfile::tempdir().unwrap();
    fs::write(only_file(&folder), file).unwrap();
    let (mut shelf, found) = reopen(folder.path());
    assert_eq!((found, read(&mut shelf)), (1, vec![77]));
}

#[test]
fn a_stream_that_has_ended_is_known_to_have_after_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    let passport = passport();
    let own = Stored { stream: 9, company: Company::Own, ..stored(1) };
    let lines = [Line::Record { passport: &passport, stored: own }, Line::End(9)];
    shelf.append(&lines, 1, LARGE, true).unwrap();
    assert!(matches!(shelf.read(0), Read::Record { .. }));
    assert!(matches!(shelf.read(0), Read::End(9)));
    assert!(matches!(shelf.read(0), Read::Level));
    drop(shelf);
    // A process that was killed has not ended its streams: its successor does.
    let (mut shelf, _) = reopen(folder.path());
    write(&mut shelf, 5..6, true);
    assert!(matches!(shelf.read(0), Read::Record { .. }));
    assert!(matches!(shelf.read(0), Read::End(9)));
    assert!(matches!(shelf.read(0), Read::Gone(1)));
    assert!(matches!(shelf.read(0), Read::Record { .. }));
}

#[test]
fn records_that_are_too_old_are_passed_over_one_by_one_or_by_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    for time in 1..=6_u32 {
        write_at(&mut shelf, time..time + 1, time.into(), 150, true);
    }
    assert!(shelf.files() > 2);
    let (mut expired, mut kept) = (0, Vec::new());
    while shelf.has_expired(6) {
        match shelf.read(6) {
            Read::Expired(records) => expired += records,
            Read::Record { time, .. } => kept.push(time),
            Read::Level => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(expired, 5);
    assert!(!shelf.has_expired(6));
    kept.extend(read(&mut shelf).into_iter().map(u64::from));
    assert_eq!(kept, [6]);
}

#[test]
fn the_oldest_file_can_be_given_up_with_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    write_at(&mut shelf, 0..10, 1, 100, false);
    write_at(&mut shelf, 10..20, 1, 100, true);
    write_at(&mut shelf, 20..30, 1, 100, true);
    assert_eq!(shelf.remove_oldest(), Some(0));
    assert!(matches!(shelf.read(0), Read::Record { .. }));
    assert_eq!(shelf.remove_oldest(), Some(9));
    assert_eq!(shelf.remove_oldest(), None, "it is in use");
    assert_eq!(read(&mut shelf), (20..30).collect::<Vec<u32>>());
}

#[test]
fn nobody_else_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    let place = write(&mut shelf, 0..10, false);
    settle(&mut shelf, [place]);
    let modes = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().permissions().mode() & 0o777);
    assert_eq!(modes.collect::<Vec<u32>>(), [0o600, 0o600]);
}

#[test]
fn marks_never_take_more_than_was_set_aside_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    let Place { segment, .. } = write(&mut shelf, 0..100, false);
    let size = |path: PathBuf| fs::metadata(path).unwrap().len();
    let file = only_file(&folder);
    let bytes = shelf.bytes();
    assert!(bytes > size(file.clone()));
    // The worst case: one mark for each record, as no two of them are neighbours.
    for index in (0..99).step_by(2).chain((1..99).step_by(2)) {
        settle(&mut shelf, [Place { segment, index }]);
        let on_disk = size(file.clone()) + size(segment::marks_path(&file));
        assert_eq!(shelf.bytes_on_disk(), on_disk);
        assert!(on_disk <= bytes, "{on_disk} of {bytes}");
    }
    assert_eq!(shelf.bytes(), bytes);
    let (shelf, left) = reopen(folder.path());
    assert_eq!((left, shelf.bytes()), (1, bytes));
}
