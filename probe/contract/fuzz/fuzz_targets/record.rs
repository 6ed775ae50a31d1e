//! Whatever bytes come: a record, a refusal or an error, and what is a record is written and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vigie_contract::record::{decode, decode_details, encode};

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_details(bytes);
    if let Ok(decoded) = decode(bytes)
        && let Ok(record) = decoded.record
    {
        let text = encode(&record, None, decoded.appended_at);
        assert_eq!(decode(text.as_bytes()).ok().and_then(|again| again.record.ok()), Some(record));
    }
});
