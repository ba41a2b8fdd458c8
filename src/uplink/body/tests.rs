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
    let mut frames = Vec::new();
    for _ in 0..120 {
        frames.extend_from_slice(&frame::header(false, 200));
        frames.extend_from_slice(&[7; 200]);
    }
    let frames = Bytes::from(frames);
    let amount = super::super::ledger::Amount { records: 120, bytes: 120 * 200 };
    let first = bench.ledger.try_admit_all(Kind::Trace, amount).unwrap().unwrap();
    bench.lane.push(Parcel::Many(Run::new(first, frames.clone(), 120, None)));
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
