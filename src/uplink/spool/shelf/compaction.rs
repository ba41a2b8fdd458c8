//! Makes room on a level shelf: a file that is kept by a few records that wait for long is replaced
//! by a copy of these. Whoever has them in memory knows their old places.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use super::place::Segment;
use super::{Line, Place, Shelf, remove};
use crate::uplink::envelope::Passport;
use crate::uplink::spool::codec::{self, Item, Stored};
use crate::uplink::spool::segment::{self, Frame, HEAD};

/// Worth it when no more than one record in so many is left.
const FEW: u32 = 4;

impl Shelf {
    /// Replaces one file; `false` if there is none that is worth it.
    pub(in crate::uplink::spool) fn compact(&mut self, segment_bytes: u64) -> io::Result<bool> {
        let sparse = |one: &&Segment| one.live > 0 && one.live <= one.records / FEW;
        // The newest may be in use.
        let old = self.segments.iter().rev().skip(1).rev().find(sparse);
        let Some(old) = old.filter(|_| !self.is_behind()) else { return Ok(false) };
        let (number, time) = (old.number, old.newest);
        let survivors = survivors(&File::open(self.path(number))?, old)?;
        let lines: Vec<Line<'_>> = survivors
            .iter()
            .map(|(_, passport, stored)| Line::Record { passport, stored: stored.clone() })
            .collect();
        let first = self.append(&lines, time, segment_bytes, false)?;
        let places = (first.index..).map(|index| Place { index, ..first });
        let renamed: HashMap<Place, Place> = survivors
            .iter()
            .map(|(index, ..)| Place { segment: number, index: *index })
            .zip(places)
            .collect();
        for place in self.moved.values_mut() {
            if let Some(new) = renamed.get(place) {
                *place = *new;
            }
        }
        self.moved.extend(renamed);
        // A power cut must find one of the two.
        self.sync()?;
        self.segments.retain(|one| one.number != number);
        remove(&self.path(number));
        Ok(true)
    }
}

type Survivor = (u32, Arc<Passport>, Stored);

/// The records of a file that are still to be sent, with their numbers.
fn survivors(file: &File, segment: &Segment) -> io::Result<Vec<Survivor>> {
    let damaged = || io::Error::other("a file of the spool is damaged");
    let mut passports: HashMap<u32, Arc<Passport>> = HashMap::new();
    let (mut found, mut index, mut at) = (Vec::new(), 0, HEAD);
    loop {
        let mut frame = match segment::frame(file, at, segment.len)? {
            Frame::Whole(frame, next) => {
                at = next;
                frame
            }
            Frame::End => return Ok(found),
            Frame::Torn => return Err(damaged()),
        };
        codec::time(&mut frame).map_err(|_| damaged())?;
        while let Some(item) = codec::next(&mut frame).map_err(|_| damaged())? {
            match item {
                Item::Passport(number, passport) => {
                    passports.extend(passport.map(|passport| (number, Arc::new(*passport))));
                }
                Item::Record(number, stored) => {
                    if !segment.done.has(index) {
                        let passport = passports.get(&number).ok_or_else(damaged)?;
                        found.push((index, passport.clone(), stored));
                    }
                    index += 1;
                }
                Item::End(_) => {}
            }
        }
    }
}
