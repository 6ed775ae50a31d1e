//! Whatever text comes: a catalogue or problems that lie within the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vigie_contract::Catalogue;
use vigie_contract::catalogue::Strictness;

fuzz_target!(|text: &str| {
    for strictness in [Strictness::Replay, Strictness::Live] {
        match Catalogue::read(text, strictness) {
            Ok((catalogue, _)) => assert!(catalogue.changes_from(&catalogue).is_empty()),
            Err(problems) => {
                assert!(!problems.is_empty());
                for problem in problems {
                    assert!(text.get(problem.span.clone()).is_some(), "{problem:?}");
                    let _ = problem.line_and_column(text);
                }
            }
        }
    }
});
