//! What a kill, a power cut or a disk that refuses may do to a shelf, step by step.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::super::compaction::COPY;
use super::*;

/// The files of a folder and what they hold.
type Content = BTreeMap<String, Vec<u8>>;

fn content(folder: &Path) -> Content {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

/// The records that are found in a folder with these files, in their order.
fn found(content: &Content) -> Vec<u32> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in content {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let (mut shelf, found) = reopen(folder.path());
    let records = read(&mut shelf);
    assert_eq!(found, records.len() as u64);
    records
}

/// A shelf of two files of 100 records and one in use. Of the first file every tenth record is left, from the
/// fifth on; the second one is whole.
fn sparse(folder: &Path) -> Shelf {
    let mut shelf = Shelf::new(Kind::Meter, folder, SpoolSync::Interval);
    let first = write_at(&mut shelf, 0..60, 5, LARGE, false);
    write_at(&mut shelf, 60..100, 6, LARGE, false);
    shelf.seal();
    write_at(&mut shelf, 100..200, 7, LARGE, false);
    shelf.seal();
    write_at(&mut shelf, 200..201, 8, LARGE, false);
    let done = (0..100).filter(|index| index % 10 != 5);
    settle(&mut shelf, done.map(|index| Place { index, ..first }));
    shelf
}

fn reopen(folder: &Path) -> (Shelf, u64) {
    let mut shelf = Shelf::new(Kind::Meter, folder, SpoolSync::Interval);
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut files: Vec<u64> =
        names.filter_map(|name| Some(Shelf::parse(name.to_str()?)?.1)).collect();
    files.sort_unstable();
    let found = files.into_iter().map(|number| shelf.take_over(number, 1).unwrap()).sum();
    (shelf, found)
}

#[test]
fn a_file_kept_by_few_records_makes_room_for_a_copy_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = sparse(folder.path());
    let before = shelf.bytes();
    assert!(shelf.compact().unwrap());
    assert!(shelf.bytes() < before * 3 / 4, "{before}, {}", shelf.bytes());
    assert!(!shelf.compact().unwrap(), "the others are still needed, and the copy is dense");
    // They are known by the names they had.
    assert_eq!(settle(&mut shelf, [5, 15, 25, 35, 45].map(|index| Place { segment: 1, index })), 5);
    assert!(!shelf.compact().unwrap());
    settle(&mut shelf, [55, 65, 75].map(|index| Place { segment: 1, index }));
    assert!(shelf.compact().unwrap(), "once more");
    let left: Vec<u32> = [85, 95].into_iter().chain(100..201).collect();
    assert_eq!(found(&content(folder.path())), left);
    settle(&mut shelf, [85, 95].map(|index| Place { segment: 1, index }));
    assert_eq!(shelf.files(), 2, "it goes like any other");
}

#[test]
fn what_has_been_read_is_copied_while_there_is_more_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut shelf, _) = {
        drop(sparse(folder.path()));
        reopen(folder.path())
    };
    assert!(!shelf.compact().unwrap(), "nothing of it is in memory");
    // The first file, and one of the second.
    let first: Vec<Read> = (0..11).map(|_| shelf.read(0)).collect();
    assert!(first.iter().all(|read| matches!(read, Read::Record { .. })));
    assert!(shelf.compact().unwrap());
    assert_eq!(read(&mut shelf), (101..201).collect::<Vec<u32>>());
}

/// Whatever moment the process is killed at, each record is there once: metrics must not be sent twice.
#[test]
fn a_kill_at_any_step_of_a_compaction_leaves_each_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = sparse(folder.path());
    let before = content(folder.path());
    assert!(shelf.compact().unwrap());
    let after = content(folder.path());
    let expected: Vec<u32> = (0..100).filter(|index| index % 10 == 5).chain(100..201).collect();
    assert_eq!(found(&before), expected);
    assert_eq!(found(&after), expected);
    // All that is new has been written, and nothing that is old removed.
    let mut between = before.clone();
    between.extend(after.clone());
    assert_eq!(found(&between), expected);
    // The copy, written to any byte, under the name it has until then.
    let name = Shelf::name(Kind::Meter, 1);
    let copy = Path::new(&name).with_extension(COPY).to_str().unwrap().to_owned();
    for len in 0..=after[&name].len() {
        let mut torn = before.clone();
        torn.insert(copy.clone(), after[&name][..len].to_vec());
        assert_eq!(found(&torn), expected, "cut at {len}");
    }
}

/// The same for a copy as for other files: they are read by the same rules.
#[test]
fn a_copy_cut_at_any_byte_never_invents_and_never_shifts_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = sparse(folder.path());
    assert!(shelf.compact().unwrap());
    let name = Shelf::name(Kind::Meter, 1);
    let whole = content(folder.path())[&name].clone();
    let mut alone = content(folder.path());
    alone.retain(|other, _| {
        !other.starts_with("meter-000000000002") && !other.starts_with("meter-000000000003")
    });
    let (first, all): (Vec<u32>, Vec<u32>) =
        ((0..6).map(|ten| ten * 10 + 5).collect(), (0..10).map(|ten| ten * 10 + 5).collect());
    let mut seen = std::collections::BTreeSet::new();
    for len in HEAD as usize..=whole.len() {
        alone.insert(name.clone(), whole[..len].to_vec());
        let records = found(&alone);
        assert!([&[][..], &first, &all].contains(&&records[..]), "cut at {len}: {records:?}");
        seen.insert(records.len());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 6, 10]);
}

#[test]
fn one_file_open_for_each_kind_however_many_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter_map(|entry| fs::read_link(entry.path()).ok())
            .filter(|path| path.starts_with(folder.path()))
            .count()
    };
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    let places: Vec<Place> =
        (0..50).map(|file| write_at(&mut shelf, file * 10..file * 10 + 10, 1, 1, false)).collect();
    assert_eq!(shelf.files(), 50);
    assert_eq!(open(), 2, "the one in use, and its marks");
    settle(&mut shelf, places.iter().copied());
    assert_eq!(open(), 2);
    assert!(shelf.sync(), "marks of all of them");
    assert_eq!(open(), 2);
    shelf.seal();
    assert_eq!(open(), 0);
    let (shelf, found) = super::reopen(folder.path());
    assert_eq!((shelf.files(), found, open()), (50, 450, 0));
}

/// `/dev/null` takes what is written, and refuses to have it on a disk.
#[test]
fn what_the_disk_refuses_does_not_count_as_safe_and_is_not_asked_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Always);
    write(&mut shelf, 0..10, false);
    assert!(shelf.sync() && shelf.refusal().is_none());
    let place = write(&mut shelf, 10..20, false);
    shelf.break_disk();
    assert_eq!((shelf.durable(), shelf.doubtful()), (20, 0));
    shelf.sync();
    assert_eq!(shelf.refusal().unwrap().records, 20);
    assert_eq!((shelf.durable(), shelf.doubtful()), (0, 20));
    shelf.sync();
    assert!(shelf.refusal().is_none());
    assert_eq!(shelf.doubtful(), 20, "another attempt proves nothing");
    // The next ones are in another file.
    let next = write(&mut shelf, 20..30, false);
    assert_ne!(next.segment, place.segment);
    assert!(shelf.sync() && shelf.refusal().is_none());
    assert_eq!((shelf.durable(), shelf.doubtful()), (10, 20));
    settle(&mut shelf, (0..20).map(|index| Place { segment: place.segment, index }));
    assert_eq!((shelf.durable(), shelf.doubtful(), shelf.files()), (10, 0, 1));
}

#[test]
fn a_file_that_is_sealed_is_on_disk_unless_nobody_wants_that() {
    for (sync, refused) in
        [(SpoolSync::Always, true), (SpoolSync::Interval, true), (SpoolSync::Never, false)]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(Kind::Trace, folder.path(), sync);
        write(&mut shelf, 0..10, false);
        shelf.break_disk();
        // It has reached its size.
        write_at(&mut shelf, 10..20, 1, 1, false);
        assert_eq!(shelf.refusal().is_some(), refused, "{sync:?}");
        assert_eq!(shelf.doubtful(), if refused { 10 } else { 0 }, "{sync:?}");
    }
}

#[test]
fn records_that_cannot_be_marked_stay_and_are_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Meter, folder.path(), SpoolSync::Interval);
    let place = write(&mut shelf, 0..10, false);
    shelf.seal();
    // In the way of the marks.
    let marks = segment::marks_path(&folder.path().join(Shelf::name(Kind::Meter, place.segment)));
    fs::remove_file(&marks).unwrap();
    fs::create_dir(&marks).unwrap();
    let mut places: Vec<Place> = (0..5).map(|index| Place { index, ..place }).collect();
    let all = places.clone();
    shelf.settle(&mut places).unwrap_err();
    assert_eq!(places, all);
    assert_eq!(shelf.durable(), 10);
    fs::remove_dir(&marks).unwrap();
    shelf.settle(&mut places).unwrap();
    assert!(places.is_empty());
    assert_eq!(shelf.durable(), 5);
    assert_eq!(reopen(folder.path()).1, 5);
}

#[test]
fn marks_that_the_disk_refused_are_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Meter, folder.path(), SpoolSync::Always);
    let place = write(&mut shelf, 0..10, false);
    let at = |index| Place { index, ..place };
    settle(&mut shelf, [at(1), at(2)]);
    let segment = shelf.segments.back_mut().unwrap();
    segment.marks = Some(fs::File::options().write(true).open("/dev/null").unwrap());
    settle(&mut shelf, [at(7)]);
    assert!(shelf.sync_marks().is_err());
    // In the kernel's memory they may be gone: here they are.
    let marks = segment::marks_path(&folder.path().join(Shelf::name(Kind::Meter, place.segment)));
    fs::write(&marks, b"").unwrap();
    assert!(shelf.sync_marks().unwrap());
    assert_eq!(reopen(folder.path()).1, 7);
    assert_eq!(fs::metadata(&marks).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A file of an earlier process may have none so far, and one that is not found at the next start marks nothing.
#[test]
fn a_new_list_of_marks_is_on_disk_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    write(&mut Shelf::new(Kind::Meter, folder.path(), SpoolSync::Always), 0..10, false);
    let marks = segment::marks_path(&folder.path().join(Shelf::name(Kind::Meter, 1)));
    fs::remove_file(&marks).unwrap();
    let mut shelf = Shelf::new(Kind::Meter, folder.path(), SpoolSync::Always);
    assert_eq!(shelf.take_over(1, 1).unwrap(), 10);
    settle(&mut shelf, [Place { segment: 1, index: 0 }]);
    segment::SYNCED.take();
    assert!(shelf.sync_marks().unwrap());
    assert_eq!(segment::SYNCED.take(), [folder.path()]);
    settle(&mut shelf, [Place { segment: 1, index: 1 }]);
    assert!(shelf.sync_marks().unwrap());
    assert!(segment::SYNCED.take().is_empty(), "it has it");
}

/// The names of files are part of what is promised.
#[test]
fn a_folder_that_cannot_be_synced_puts_its_new_files_in_doubt() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Always);
    write(&mut shelf, 0..10, false);
    assert!(shelf.sync() && shelf.refusal().is_none());
    shelf.seal();
    write(&mut shelf, 10..15, false);
    // What is synced for this shelf is something that has no disk.
    let real = std::mem::replace(&mut shelf.folder, PathBuf::from("/proc/self/fdinfo/none"));
    shelf.sync();
    assert_eq!(shelf.refusal().unwrap().records, 5);
    assert_eq!((shelf.durable(), shelf.doubtful()), (10, 5));
    shelf.folder = real;
    write(&mut shelf, 15..20, false);
    assert!(shelf.sync() && shelf.refusal().is_none());
    assert_eq!((shelf.durable(), shelf.doubtful()), (15, 5));
}

/// Puts a folder in the place of a file, which can be opened and not be read; called again, the file in its place.
fn swap(path: &Path) {
    let aside = path.with_extension("aside");
    if aside.exists() {
        fs::remove_dir(path).unwrap();
        fs::rename(&aside, path).unwrap();
    } else {
        fs::rename(path, &aside).unwrap();
        fs::create_dir(path).unwrap();
    }
}

#[test]
fn a_read_that_fails_for_the_moment_costs_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    write(&mut shelf, 0..10, true);
    shelf.seal();
    write(&mut shelf, 10..20, true);
    let first = folder.path().join(Shelf::name(Kind::Trace, 1));
    swap(&first);
    for _ in 0..3 {
        assert!(matches!(shelf.read(0), Read::Failed(_)));
    }
    assert_eq!((shelf.durable(), shelf.files()), (20, 2));
    swap(&first);
    assert_eq!(read(&mut shelf), (0..20).collect::<Vec<u32>>());
}

#[test]
fn a_file_that_cannot_be_read_for_long_is_damaged_and_one_that_is_damaged_is_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Trace, folder.path(), SpoolSync::Interval);
    for file in 0..3 {
        write(&mut shelf, file * 10..file * 10 + 10, true);
        shelf.seal();
    }
    let path = |number| folder.path().join(Shelf::name(Kind::Trace, number));
    swap(&path(1));
    assert!(matches!(shelf.read(0), Read::Failed(_)));
    let since = std::time::Instant::now().checked_sub(place::PATIENCE).unwrap();
    shelf.cursor.as_mut().unwrap().failing = Some(since);
    assert!(matches!(shelf.read(0), Read::Damaged(10)));
    // A byte of its only frame, and one that ends too early.
    let mut bytes = fs::read(path(2)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path(2), bytes).unwrap();
    assert!(matches!(shelf.read(0), Read::Damaged(10)));
    fs::File::options().write(true).open(path(3)).unwrap().set_len(HEAD + 12).unwrap();
    assert!(matches!(shelf.read(0), Read::Damaged(10)));
    assert!(matches!(shelf.read(0), Read::Level));
}

/// Taken for none, they would be sent twice.
#[test]
fn a_file_whose_marks_cannot_be_read_is_not_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut dead = Shelf::new(Kind::Meter, folder.path(), SpoolSync::Interval);
    let place = write(&mut dead, 0..10, false);
    settle(&mut dead, (0..4).map(|index| Place { index, ..place }));
    drop(dead);
    let marks = segment::marks_path(&folder.path().join(Shelf::name(Kind::Meter, 1)));
    swap(&marks);
    let mut shelf = Shelf::new(Kind::Meter, folder.path(), SpoolSync::Interval);
    assert_eq!(shelf.take_over(1, 1).unwrap_err().code(), Code::SpoolUnusable);
    swap(&marks);
    assert_eq!(shelf.take_over(1, 1).unwrap(), 6);
}

#[test]
fn a_file_that_cannot_be_removed_keeps_its_marks() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = Shelf::new(Kind::Meter, folder.path(), SpoolSync::Interval);
    let paths: Vec<PathBuf> =
        (1..3).map(|file| folder.path().join(Shelf::name(Kind::Meter, file))).collect();
    for path in &paths {
        let place = write(&mut shelf, 0..10, false);
        shelf.seal();
        if *path == paths[0] {
            swap(path);
        }
        settle(&mut shelf, (0..10).map(|index| Place { index, ..place }));
    }
    swap(&paths[0]);
    assert_eq!(shelf.files(), 0);
    assert!(!paths[1].exists() && !segment::marks_path(&paths[1]).exists());
    assert_eq!(reopen(folder.path()).1, 0, "none of them comes back");
}

#[test]
fn marks_that_a_failed_takeover_left_do_not_count_for_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(Shelf::name(Kind::Meter, 1));
    segment::mark_anew(&path, &(0..10).collect::<Vec<u32>>()).unwrap();
    write(&mut Shelf::new(Kind::Meter, folder.path(), SpoolSync::Interval), 0..10, false);
    assert_eq!(reopen(folder.path()).1, 10);
}

#[test]
fn a_file_that_is_in_the_way_is_left_alone_and_passed_by() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(Shelf::name(Kind::Meter, 1));
    fs::write(&path, "of somebody").unwrap();
    let mut shelf = Shelf::new(Kind::Meter, folder.path(), SpoolSync::Interval);
    let (passport, stored) = (passport(), stored(1));
    let lines = [Line::Record { passport: &passport, stored }];
    assert!(shelf.append(&lines, 1, LARGE, false).is_err());
    assert_eq!(shelf.append(&lines, 1, LARGE, false).unwrap().segment, 2);
    assert_eq!(fs::read(&path).unwrap(), b"of somebody");
}
