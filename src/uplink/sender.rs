//! Empties one lane: opens streams, waits for their answers, puts back what failed.
//!
//! The next stream opens when the body of the last one has ended, not when it is answered: the
//! round trip to the backend costs time, not throughput.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code as Status, metadata::GRPC_CONTENT_TYPE};

use super::account::DropReason;
use super::body::{Batch, Bounds, Gathering, ReportBody};
use super::lane::{Lane, Outlook};
use super::ledger::{Amount, Fate, Seat};
use super::parcel::Parcel;
use super::{Uplink, envelope::Passport, spool};
use crate::error::{Chain, Code, Error, Result};
use crate::protocol::Shape;
use crate::transport::Reach;
use crate::transport::backoff::{self, Backoff};
use crate::transport::trailers::trailers;

/// Streams of one lane that may wait for their answer at a time.
const FLIGHTS: usize = 4;
/// Records of one stream: few enough that a failure repeats little.
const RECORDS: usize = 10_000;
/// Records of one stream while the backend says that it has too much to do.
const LEAST_WHEN_BUSY: usize = 50;
/// How often in a row the backend may break over the same records before one is held to be the cause.
const STRIKES: u32 = 3;
/// How often a stream that is being gathered looks at the clock and at the room that is left.
const GATHERING_CHECK: Duration = Duration::from_millis(100);
/// How often it is seen, while the link is down, whether a record has become too old.
const EXPIRY_CHECK: Duration = Duration::from_millis(200);

/// One stream that has come back.
struct Landing {
    parcels: Vec<Parcel>,
    verdict: Verdict,
}

/// What the backend made of a stream.
enum Verdict {
    Acknowledged,
    /// Try again later. `Reach` says whether it may have arrived.
    Retry(Error, Reach),
    /// As `Retry`, and the backend has too much to do.
    Busy(Error),
    /// No repetition will change it.
    Rejected(Error),
    /// Nothing of this method is ever taken.
    Unwanted(Error),
    /// The backend broke over it: the fault may pass, or be in a record.
    Suspect(Error),
}

struct Sender {
    uplink: Uplink,
    lane: Arc<Lane>,
    flights: JoinSet<Landing>,
    backoff: Backoff,
    /// Rest before the next stream, after a failure.
    rest: Option<Duration>,
    /// How many records the next stream takes; halved to find the one that is refused.
    appetite: usize,
    flights_allowed: usize,
    complaint: Option<Code>,
    /// How often the backend has broken since it was last well.
    strikes: u32,
    /// How many records of this kind were acknowledged when it first broke.
    doubt: Option<u64>,
}

/// Runs until nobody uses the lane any more and it is empty.
pub(super) async fn run(uplink: Uplink, lane: Arc<Lane>) {
    let mut sender = Sender {
        uplink,
        lane,
        flights: JoinSet::new(),
        backoff: Backoff::default(),
        rest: None,
        appetite: RECORDS,
        flights_allowed: FLIGHTS,
        complaint: None,
        strikes: 0,
        doubt: None,
    };
    sender.run().await;
}

// === impl Sender ===

impl Sender {
    async fn run(&mut self) {
        loop {
            while let Some(landed) = self.flights.try_join_next() {
                self.settle(landed.ok());
            }
            if self.flights.len() >= self.flights_allowed {
                self.await_landing().await;
                continue;
            }
            if let Some(rest) = self.rest.take() {
                tokio::time::sleep(rest).await;
                continue;
            }
            let offer = offer(&self.uplink, &self.lane);
            let outlook = tokio::select! {
                outlook = offer => outlook,
                Some(landed) = self.flights.join_next() => {
                    self.settle(landed.ok());
                    continue;
                }
            };
            match outlook {
                Outlook::Over if self.flights.is_empty() => {
                    if self.uplink.close(&self.lane) {
                        return;
                    }
                }
                Outlook::Over => self.await_landing().await,
                // An error: the transport has been stopped, and the books with it.
                Outlook::Records => match self.ready().await {
                    Ok(()) if self.lane.is_empty() => {}
                    Ok(()) => self.take_off().await,
                    Err(_) => return,
                },
            }
        }
    }

    /// Waits for the link; what gets too old meanwhile is given up.
    async fn ready(&self) -> Result<()> {
        let age = self.uplink.max_age();
        loop {
            self.expire(age);
            tokio::select! {
                ready = self.uplink.0.transport.ready() => return ready.map(|_| ()),
                () = tokio::time::sleep(EXPIRY_CHECK), if age.is_some() => {}
            }
        }
    }

    fn expire(&self, age: Option<Duration>) {
        let Some(age) = age.and_then(|age| u64::try_from(age.as_millis()).ok()) else { return };
        let expired = self.lane.take_older(spool::now().saturating_sub(age));
        let kind = self.lane.passport().method.kind;
        self.uplink.settle(kind, &expired, Seat::Queued, Fate::Dropped(DropReason::Expired));
    }

    /// What must not be sent twice is taken out of the spool before it is sent: after a crash
    /// nobody could say whether it was. Gives the bounds that keep to such records; `None`: not now, for it
    /// cannot be marked so.
    async fn withdraw(&self, bounds: Bounds) -> Option<Bounds> {
        let method = self.lane.passport().method;
        let Some(spool) = self.uplink.0.spool.as_ref().filter(|_| !method.resend) else {
            return Some(bounds);
        };
        let (places, Some(last)) = self.lane.front(bounds.records(), bounds.bytes()) else {
            return Some(bounds);
        };
        if !places.is_empty() {
            if !spool.taken(method.kind, places).await {
                return None;
            }
            self.lane.withdraw(last);
        }
        Some(bounds.up_to(last))
    }

    /// Opens a stream and waits until its body has ended.
    async fn take_off(&mut self) {
        let Ok(permit) = self.uplink.0.streams.clone().acquire_owned().await else { return };
        let settings = self.uplink.0.settings;
        let passport = self.lane.passport();
        // A call that is no stream takes one.
        let records = if passport.method.shape == Shape::Unary { 1 } else { self.appetite };
        let bounds = Bounds::of(passport.method.sticky, records, settings.max_bytes);
        let Some(bounds) = self.withdraw(bounds).await else {
            self.rest = Some(self.backoff.rest());
            return;
        };
        let (open, mut end) = oneshot::channel();
        let lane = self.lane.clone();
        let batch = Arc::new(Batch::new(open));
        let ledger = self.uplink.0.ledger.clone();
        let body = ReportBody::new(self.lane.clone(), batch.clone(), bounds, ledger);
        let request = request(passport, Body::new(body));
        let transport = self.uplink.0.transport.clone();
        self.flights.spawn(async move {
            let call = async {
                let response = match transport.send(request).await {
                    Ok(response) => response,
                    Err((error, reach)) => return Verdict::Retry(error, reach),
                };
                verdict(response).await
            };
            let verdict = tokio::select! {
                verdict = call => verdict,
                () = overdue(&batch, settings.timeout) => {
                    let error = Error::new(Code::CallFailed).found(format!("no progress within {:?}", settings.timeout));
                    Verdict::Retry(error, Reach::Unknown)
                }
            };
            drop(permit);
            let (parcels, ended) = batch.close(&lane);
            let verdict = match verdict {
                // It does not speak for what was still on its way.
                Verdict::Acknowledged if !ended => {
                    let error = Error::new(Code::CallFailed).found("OK before the end of the stream");
                    Verdict::Retry(error, Reach::Unknown)
                }
                verdict => verdict,
            };
            Landing { parcels, verdict }
        });
        loop {
            tokio::select! {
                // An error means the same as a message: the body takes no more.
                _ = &mut end => return,
                // Room is given back while a long stream goes on.
                Some(landed) = self.flights.join_next() => self.settle(landed.ok()),
            }
        }
    }

    async fn await_landing(&mut self) {
        if let Some(landed) = self.flights.join_next().await {
            self.settle(landed.ok());
        }
    }

    /// Enters into the books what became of a stream. `None`: its task was cancelled with the
    /// runtime, which is the end of the books too.
    fn settle(&mut self, landing: Option<Landing>) {
        let Some(Landing { parcels, verdict }) = landing else { return };
        let method = self.lane.passport().method;
        let ledger = self.uplink.0.ledger.clone();
        let count = Amount::of(&parcels).records;
        let records = count as usize;
        match self.judge(verdict, records) {
            Verdict::Acknowledged => {
                self.uplink.settle(method.kind, &parcels, Seat::Sent, Fate::Acknowledged);
                self.backoff.reset();
                self.flights_allowed = FLIGHTS;
                self.appetite = self.appetite.saturating_mul(2).min(RECORDS);
                if self.appetite == RECORDS {
                    self.trust();
                }
                if self.complaint.take().is_some() {
                    log::info!("{} are delivered again", method.path);
                }
            }
            Verdict::Rejected(error) if records > 1 && method.resend => {
                // One of them is at fault: half as many next time finds it.
                self.appetite = records / 2;
                self.complain(&error, "looking for the record at fault");
                self.put_back(parcels);
            }
            Verdict::Suspect(error) => {
                // Others may show whether it is the record or the backend.
                self.complain(&error, "a record the backend breaks over waits behind the others");
                ledger.shift(method.kind, count, Seat::Sent, Seat::Queued);
                self.lane.defer(parcels, &ledger);
            }
            Verdict::Rejected(error) | Verdict::Unwanted(error) => {
                self.trust();
                if count > 0 {
                    self.complain(&error, &format!("{count} records dropped"));
                    self.give_up(&parcels, DropReason::Rejected);
                }
            }
            Verdict::Busy(error) => {
                // Less at a time, and one after the other.
                self.flights_allowed = 1;
                self.appetite = (records / 2).max(LEAST_WHEN_BUSY).min(self.appetite);
                self.retry(parcels, &error, Reach::Unknown);
            }
            Verdict::Retry(error, reach) => self.retry(parcels, &error, reach),
        }
    }

    /// Rests, and puts the records back unless they could be counted twice.
    fn retry(&mut self, parcels: Vec<Parcel>, error: &Error, reach: Reach) {
        self.rest = Some(self.backoff.rest_within(longest_rest(error)));
        let (count, method) = (Amount::of(&parcels).records, self.lane.passport().method);
        if count == 0 {
            return;
        }
        if reach == Reach::Unknown && !method.resend {
            self.complain(error, &format!("{count} records dropped, as they may have arrived"));
            self.give_up(&parcels, DropReason::NotResent);
            return;
        }
        if reach == Reach::Unknown {
            self.uplink.0.ledger.note_repeat(method.kind, count);
        }
        self.complain(error, "records wait to be sent again");
        self.put_back(parcels);
    }

    fn put_back(&self, parcels: Vec<Parcel>) {
        let kind = self.lane.passport().method.kind;
        let records = Amount::of(&parcels).records;
        self.uplink.0.ledger.shift(kind, records, Seat::Sent, Seat::Queued);
        self.lane.put_back(parcels);
    }

    fn give_up(&self, parcels: &[Parcel], reason: DropReason) {
        let kind = self.lane.passport().method.kind;
        self.uplink.settle(kind, parcels, Seat::Sent, Fate::Dropped(reason));
    }

    /// A backend that breaks is tried again a few times; then one of the records is taken for the
    /// cause. A single one is given up only if the backend has taken others since: one that breaks
    /// over everything costs no records.
    fn judge(&mut self, verdict: Verdict, records: usize) -> Verdict {
        let Verdict::Suspect(error) = verdict else { return verdict };
        let kind = self.lane.passport().method.kind;
        let acknowledged = self.uplink.0.ledger.acknowledged(kind);
        let doubt = *self.doubt.get_or_insert(acknowledged);
        self.strikes += 1;
        self.rest = Some(self.backoff.rest());
        if self.strikes < STRIKES || !self.lane.passport().method.resend {
            Verdict::Retry(error, Reach::Unknown)
        } else if records > 1 || acknowledged > doubt {
            Verdict::Rejected(error)
        } else {
            Verdict::Suspect(error)
        }
    }

    fn trust(&mut self) {
        self.strikes = 0;
        self.doubt = None;
    }

    /// Says once what holds records up, until that changes.
    fn complain(&mut self, error: &Error, consequence: &str) {
        if self.complaint.replace(error.code()) != Some(error.code()) {
            log::warn!("{}: {consequence}: {}", self.lane.passport().method.path, Chain(error));
        }
    }
}

/// Waits until a lane has something to send: any record, or, where the backend takes a stream for
/// one unit, the whole of it. Such a stream does not stay open at the backend while an agent takes
/// its time, and can be sent again as a whole.
async fn offer(uplink: &Uplink, lane: &Lane) -> Outlook {
    let outlook = lane.outlook().await;
    let sticky = lane.passport().method.sticky;
    let gathering = Gathering::of(sticky, uplink.0.settings.max_bytes);
    if let (Outlook::Records, Some(Gathering { bytes, age })) = (outlook, gathering) {
        let begun = Instant::now();
        let late = || age.is_some_and(|age| begun.elapsed() >= age);
        // Whoever waits for room may be waiting for the room these very records take.
        while timeout(GATHERING_CHECK, lane.gathered(bytes)).await.is_err()
            && !late()
            && !uplink.0.ledger.is_pressed()
        {}
    }
    outlook
}

fn request(passport: &Passport, body: Body) -> http::Request<Body> {
    let mut request = http::Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static(passport.method.path);
    let headers = request.headers_mut();
    for (name, value) in passport.metadata.iter() {
        headers.append(name, value.clone());
    }
    headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    headers.insert(http::header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    if let Some(encoding) = passport.encoding() {
        headers.insert("grpc-encoding", encoding.clone());
    }
    request
}

/// Reads an answer to its end: the status comes in the trailers, or in the head if there is
/// nothing else.
async fn verdict(response: http::Response<Incoming>) -> Verdict {
    let (head, body) = response.into_parts();
    let mut status = tonic::Status::from_header_map(&head.headers);
    if status.is_none() {
        match trailers(body).await {
            Ok(trailers) => {
                status = trailers.as_ref().and_then(tonic::Status::from_header_map);
            }
            Err(error) => {
                return Verdict::Retry(
                    Error::new(Code::ConnectionLost).because(error),
                    Reach::Unknown,
                );
            }
        }
    }
    let failed = |status: &tonic::Status| {
        let found = format!("gRPC status {:?} {}", status.code(), status.message());
        Error::new(Code::CallFailed).found(found)
    };
    match status {
        Some(status) => match status.code() {
            Status::Ok => Verdict::Acknowledged,
            Status::InvalidArgument | Status::OutOfRange => Verdict::Rejected(failed(&status)),
            Status::Unimplemented => Verdict::Unwanted(failed(&status)),
            // So gRPC servers answer what they cannot decode, and when a handler throws.
            Status::Internal | Status::Unknown | Status::DataLoss => {
                Verdict::Suspect(failed(&status))
            }
            Status::ResourceExhausted if is_about_size(status.message()) => {
                Verdict::Rejected(failed(&status))
            }
            Status::ResourceExhausted => {
                let found = status.message();
                Verdict::Busy(Error::new(Code::BackendBusy).found(found))
            }
            // Answered before a handler has seen it.
            Status::PermissionDenied | Status::Unauthenticated => {
                let found = format!("gRPC status {:?} {}", status.code(), status.message());
                Verdict::Retry(Error::new(Code::BackendDenies).found(found), Reach::None)
            }
            _ => Verdict::Retry(failed(&status), Reach::Unknown),
        },
        None => {
            let found = format!("HTTP status {} without a gRPC status", head.status);
            Verdict::Retry(Error::new(Code::CallFailed).found(found), Reach::Unknown)
        }
    }
}

/// How long to leave the backend alone at most. One that is busy is not helped by haste, and a token
/// is corrected by a human.
fn longest_rest(error: &Error) -> Duration {
    match error.code() {
        Code::BackendBusy | Code::BackendDenies => backoff::LONG,
        // The transport takes its own time to heal the link, and `ready` waits for it.
        Code::ConnectionLost | Code::Http2Failed | Code::BackendSilent => backoff::FIRST,
        _ => backoff::SHORT,
    }
}

/// How gRPC's implementations say that a message exceeds the receiver's limit; the same status
/// otherwise means that the backend is busy.
fn is_about_size(text: &str) -> bool {
    ["larger than max", "exceeds maximum size"].iter().any(|part| text.contains(part))
}

/// Returns once the backend has made no progress for `limit`.
async fn overdue(batch: &Batch, limit: Duration) {
    let mut tick =
        tokio::time::interval((limit / 4).clamp(Duration::from_millis(10), Duration::from_secs(1)));
    loop {
        tick.tick().await;
        if batch.is_overdue(limit) {
            return;
        }
    }
}
