use std::task::Waker;

use super::*;
use crate::protocol::frame::Message;
use crate::protocol::{Kind, find};
use crate::uplink::envelope::Passport;
use crate::uplink::parcel::Run;

const HOUR: Duration = Duration::from_secs(3600);

struct Bench {
    lane: Arc<Lane>,
    ledger: Arc<Ledger>,
    batch: Arc<Batch>,
    body: ReportBody,
}

impl Bench {
    fn new() -> Self {
        let method = find("/skywalking.v3.TraceSegmentReportService/collect").unwrap();
        let lane = Arc::new(Lane::new(Arc::new(Passport::new(method)), None));
        lane.join();
        let ledger = Arc::new(Ledger::new(1 << 30, usize::MAX));
        let batch = Arc::new(Batch::new(oneshot::channel().0));
        let bounds = Bounds { idle: HOUR, age: HOUR, ..Bounds::of(method.sticky, 100, 1 << 30) };
        let body = ReportBody::new(lane.clone(), batch.clone(), bounds, ledger.clone());
        Self { lane, ledger, batch, body }
    }

    fn report(&self, length: usize) {
        let id = self.ledger.try_admit(Kind::Trace, length).unwrap().unwrap();
        let message = Message { compressed: false, data: vec![7; length].into() };
        let (prefix, place, time, ticket) = (Bytes::new(), None, 0, None);
        self.lane.push(Record { id, message, prefix, place, time, ticket });
    }

    /// Reports a run of records of 200 bytes; gives its frames and the id of the first record.
    fn report_run(&self, records: u64) -> (Bytes, u64) {
        let mut frames = Vec::new();
        for _ in 0..records {
            frames.extend_from_slice(&frame::header(false, 200));
            frames.extend_from_slice(&[7; 200]);
        }
        let frames = Bytes::from(frames);
        let amount = super::super::ledger::Amount { records, bytes: records * 200 };
        let first = self.ledger.try_admit_all(Kind::Trace, amount).unwrap().unwrap();
        self.lane.push(Parcel::Many(Run::new(first, frames.clone(), records, None)));
        (frames, first)
    }

    /// The piece that leaves now, if one does.
    fn piece(&mut self) -> Option<Bytes> {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }
}

#[tokio::test]
async fn a_record_that_comes_alone_leaves_at_once() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.body.filled = Instant::now().checked_sub(RARE * 10).unwrap();
        bench.report(100);
        assert_eq!(bench.piece().map(|piece| piece.len()), Some(105));
        assert_eq!(bench.piece(), None);
    }
}

#[tokio::test]
async fn records_that_come_often_wait_for_company_but_not_for_more_than_a_piece() {
    let mut bench = Bench::new();
    bench.body.linger = Some(Instant::now() + HOUR);
    bench.report(100);
    assert_eq!(bench.piece(), None);
    bench.report(PIECE);
    assert_eq!(bench.piece().map(|piece| piece.len()), Some(105 + 5));
    assert_eq!(bench.piece().map(|piece| piece.len()), Some(PIECE));
}

#[tokio::test]
async fn the_wait_for_company_has_an_end() {
    let mut bench = Bench::new();
    bench.body.linger = Some(Instant::now() + LINGER);
    bench.report(100);
    let piece = std::future::poll_fn(|cx| Pin::new(&mut bench.body).poll_frame(cx));
    assert_eq!(piece.await.unwrap().unwrap().into_data().unwrap().len(), 105);
}

#[tokio::test]
async fn a_run_leaves_without_a_copy_and_is_cut_where_the_stream_has_no_room() {
    let mut bench = Bench::new();
    let (frames, first) = bench.report_run(120);
    assert!(frames.len() > LARGE);
    let piece = bench.piece().unwrap();
    assert_eq!((piece.as_ptr(), piece.len()), (frames.as_ptr(), 100 * 205));
    assert!(bench.body.is_end_stream());
    let (parcels, ended) = bench.batch.close(&bench.lane);
    assert!(ended);
    assert_eq!(parcels[0].records(), 100);
    bench.lane.put_back(parcels);
    let all = std::iter::from_fn(|| bench.lane.take_oldest());
    let ids: Vec<u64> = all.map(|parcel| parcel.first()).collect();
    assert_eq!(ids, (first..first + 120).collect::<Vec<_>>());
}

/// What a relay finds in the DATA frames of its clients: runs, and between them records that were cut.
#[tokio::test]
async fn runs_and_the_records_between_them_leave_as_one_piece() {
    let mut bench = Bench::new();
    bench.body.bounds.records = 10_000;
    let mut memory = Vec::new();
    for _ in 0..2 {
        let mut length = 0;
        while length < CHUNK {
            bench.report(200);
            length += 205 + bench.report_run(70).0.len();
        }
        let piece = bench.piece().unwrap();
        assert_eq!(piece.len(), length);
        memory.push(piece.as_ptr());
        bench.body.linger = None;
    }
    assert_eq!(bench.piece(), None);
    assert_eq!(memory[0], memory[1], "the memory of what was sent is used again");
}
