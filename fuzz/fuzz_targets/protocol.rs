//! Bytes of an agent's stream: gRPC frames in chunks of any size, and the shallow look into messages.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skytls::protocol::frame::{self, Splitter};
use skytls::protocol::scan;

const LIMIT: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let Some((&step, data)) = data.split_first() else { return };
    // However the bytes come, the frames are the same.
    let (whole, in_pieces) =
        (split(data, data.len().max(1)), split(data, usize::from(step).max(1)));
    assert_eq!(whole, in_pieces);
    let mut at = 0;
    for (compressed, message) in &whole {
        let header = frame::header(*compressed, message.len());
        assert_eq!(&data[at..at + header.len()], &header[..]);
        at += header.len() + message.len();
        look_into(message);
    }
    look_into(data);
});

fn split(data: &[u8], step: usize) -> Vec<(bool, Vec<u8>)> {
    let mut splitter = Splitter::new(LIMIT);
    let mut messages = Vec::new();
    for chunk in data.chunks(step) {
        splitter.push(chunk.to_vec().into());
        loop {
            match splitter.next() {
                Ok(Some(message)) => {
                    assert!(message.data.len() <= LIMIT);
                    messages.push((message.compressed, message.data.to_vec()));
                }
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
    }
    let _ = splitter.finish();
    messages
}

fn look_into(message: &[u8]) {
    let mut read = 0;
    let mut sound = true;
    for field in scan::fields(message) {
        let Ok(field) = field else {
            sound = false;
            break;
        };
        assert_eq!(field.raw, &message[read..read + field.raw.len()]);
        read += field.raw.len();
    }
    match scan::pick(message, &[1, 2, 3]) {
        Ok(picked) => {
            assert!(sound && read == message.len());
            // What was picked is a message, and nothing more can be left out of it.
            assert_eq!(scan::pick(&picked, &[1, 2, 3]).as_ref(), Ok(&picked));
        }
        Err(_) => assert!(!sound),
    }
}
