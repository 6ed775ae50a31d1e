//! Reading a catalogue from a file.

use std::io::{self, Write};
use std::path::Path;

use vigie_contract::Catalogue;
use vigie_contract::catalogue::{Problem, Severity, Strictness};

use crate::draw::draw;

/// Reads the catalogue at `path`; whatever is wrong is written to `errors`. `None` if it cannot be used.
pub(crate) fn read(path: &Path, strictness: Strictness, errors: &mut impl Write) -> io::Result<Option<Catalogue>> {
    Ok(understand(path, std::fs::read(path), strictness, errors)?.map(|(_, catalogue)| catalogue))
}

/// The same of what was read from `path`; the text beside what it says.
pub(crate) fn understand(
    path: &Path,
    bytes: io::Result<Vec<u8>>,
    strictness: Strictness,
    errors: &mut impl Write,
) -> io::Result<Option<(String, Catalogue)>> {
    let text = match bytes.map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => {
            let at = error.utf8_error().valid_up_to() + 1;
            writeln!(errors, "error: {} is not UTF-8 at byte {at}: save it as UTF-8", path.display())?;
            return Ok(None);
        }
        Err(error) => {
            writeln!(errors, "error: cannot read the catalogue {}: {error}", path.display())?;
            return Ok(None);
        }
    };
    let (catalogue, problems) = match Catalogue::read(&text, strictness) {
        Ok((catalogue, warnings)) => (Some(catalogue), warnings),
        Err(problems) => (None, problems),
    };
    if !problems.is_empty() {
        errors.write_all(draw(path, &text, &problems).as_bytes())?;
    }
    debug_assert_eq!(catalogue.is_none(), problems.iter().any(|problem: &Problem| problem.severity == Severity::Error));
    Ok(catalogue.map(|catalogue| (text, catalogue)))
}
