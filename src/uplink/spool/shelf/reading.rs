//! Reads a shelf from its cursor on, and says what is left to be read.

use std::sync::Arc;

use super::place::{Cursor, Trouble};
use super::{Place, Read, Shelf};
use crate::uplink::spool::codec::{self, Item};

/// Why reading a file stops.
enum Stop {
    End,
    Damaged,
    Expired,
}

impl Shelf {
    /// Reads on; records written before `cutoff` are passed over.
    pub(in crate::uplink::spool) fn read(&mut self, cutoff: u64) -> Read {
        loop {
            let Some(cursor) = &mut self.cursor else { return Read::Level };
            let Some(at) = self.segments.iter().position(|one| one.number == cursor.segment) else {
                self.cursor = None;
                return Read::Level;
            };
            let whole = self.segments[at].newest < cutoff && at + 1 < self.segments.len();
            let item = match codec::next(&mut cursor.frame) {
                _ if whole => Err(Stop::Expired),
                Ok(Some(item)) => Ok(item),
                Ok(None) => match cursor.turn(&self.folder, self.kind, &self.segments[at]) {
                    Ok(true) => continue,
                    Ok(false) => Err(Stop::End),
                    Err(Trouble::Torn) => Err(Stop::Damaged),
                    Err(Trouble::Failed(error)) => return Read::Failed(error),
                },
                Err(codec::Garbled) => Err(Stop::Damaged),
            };
            match item {
                Ok(Item::Passport(number, passport)) => {
                    let passport = passport.map(|passport| Arc::new(*passport));
                    cursor.passports.insert(number, passport);
                }
                Ok(Item::End(stream)) => return Read::End(stream),
                Ok(Item::Gap(records)) => cursor.index = cursor.index.saturating_add(records),
                Ok(Item::Record(number, stored)) => {
                    let place = Place { segment: cursor.segment, index: cursor.index };
                    cursor.index += 1;
                    let segment = &mut self.segments[at];
                    if segment.done.has(place.index) {
                        continue;
                    }
                    let passport = cursor.passports.get(&number).cloned().flatten();
                    let (expired, time) = (cursor.time < cutoff, cursor.time);
                    match passport {
                        Some(passport) if !expired => {
                            return Read::Record { passport, stored, place, time };
                        }
                        passport => {
                            segment.finish(place.index);
                            return if expired && passport.is_some() {
                                Read::Expired(1)
                            } else {
                                Read::Damaged(1)
                            };
                        }
                    }
                }
                Err(stop) => {
                    let lost = self.segments[at].finish_from(cursor.index);
                    let origin = self.segments[at].origin;
                    let following =
                        self.segments.get(at + 1).map(|next| (next.number, next.origin));
                    match following {
                        Some((number, _)) => *cursor = Cursor::start(number),
                        None => self.cursor = None,
                    }
                    self.sweep();
                    match stop {
                        Stop::Expired if lost > 0 => return Read::Expired(lost),
                        Stop::Damaged | Stop::End if lost > 0 => return Read::Damaged(lost),
                        _ => {}
                    }
                    if origin != 0 && following.is_none_or(|(_, next)| next != origin) {
                        return Read::Gone(origin);
                    }
                }
            }
        }
    }

    /// Whether what is to be read next was written before `cutoff`.
    pub(in crate::uplink::spool) fn has_expired(&mut self, cutoff: u64) -> bool {
        let Some(cursor) = &mut self.cursor else { return false };
        let found = self.segments.binary_search_by_key(&cursor.segment, |one| one.number);
        let Some(segment) = found.ok().map(|at| &self.segments[at]) else { return false };
        if segment.newest < cutoff {
            return true;
        }
        if cursor.frame.is_empty() {
            // What goes wrong here goes wrong again when it is read.
            let _ = cursor.turn(&self.folder, self.kind, segment);
        }
        !cursor.frame.is_empty() && cursor.time < cutoff
    }

    /// Whether a record is there and still to be sent.
    pub(in crate::uplink::spool) fn has(&self, place: Place) -> bool {
        let segment = self.find(place.segment).map(|at| &self.segments[at]);
        segment.is_some_and(|one| place.index < one.records && !one.done.has(place.index))
    }

    /// The process that wrote what was read last: 0 is this one.
    pub(in crate::uplink::spool) fn origin(&self, place: Place) -> u32 {
        self.find(place.segment).map_or(0, |at| self.segments[at].origin)
    }
}
