//! Signature version 4 of AWS, for S3: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.

use std::fmt::Write as _;

use ring::{digest, hmac};
use vigie_contract::{Span, Time};

use crate::secret::Secret;

/// In place of the hash of what is sent. Over TLS the content needs no signature, and the storage of the provider refuses some that have
/// one (`XAmzContentSHA256Mismatch`).
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Whoever may sign for a region.
pub(crate) struct Signer {
    pub(crate) access_key: Secret,
    pub(crate) secret_key: Secret,
    pub(crate) region: String,
}

/// What a signature covers.
pub(crate) struct Canonical<'a> {
    pub(crate) method: &'a str,
    /// Encoded as it is sent.
    pub(crate) path: &'a str,
    /// Encoded as it is sent, sorted by name.
    pub(crate) query: &'a str,
    /// Names in lower case, sorted; `host`, `x-amz-content-sha256` and `x-amz-date` are among them.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// The hash of the content in hexadecimal, or [`UNSIGNED_PAYLOAD`].
    pub(crate) payload: &'a str,
}

impl Signer {
    /// The value of the header `authorization`; `stamp` is what `x-amz-date` says.
    pub(crate) fn authorization(&self, request: &Canonical<'_>, stamp: &str) -> String {
        let day = stamp.get(..8).unwrap_or(stamp);
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let names: Vec<&str> = request.headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let canonical = digest::digest(&digest::SHA256, request.text(&names).as_bytes());
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(canonical.as_ref()));
        let first = format!("AWS4{}", self.secret_key.reveal());
        let key =
            [day, &self.region, "s3", "aws4_request"].iter().fold(hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes()), |key, part| {
                hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
            });
        let signature = hex(hmac::sign(&key, to_sign.as_bytes()).as_ref());
        let access_key = self.access_key.reveal();
        format!("AWS4-HMAC-SHA256 Credential={access_key}/{scope},SignedHeaders={names},Signature={signature}")
    }
}

impl Canonical<'_> {
    fn text(&self, names: &str) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.method, self.path, self.query);
        for (name, value) in self.headers {
            let _ = writeln!(text, "{name}:{}", value.trim());
        }
        let _ = write!(text, "\n{names}\n{}", self.payload);
        text
    }
}

/// `20130524T000000Z`.
pub(crate) fn stamp(at: Time) -> String {
    let second = at - Span::from_us(at.us().rem_euclid(1_000_000));
    second.to_string().replace(['-', ':'], "")
}

/// `text` as it stands in a path or query: all but letters, digits and `-._~` by their codes, slashes too where they separate nothing.
pub(crate) fn encode(text: &str, keeps_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keeps_slashes && byte == b'/') {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretSource;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const STAMP: &str = "20130524T000000Z";
    const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");

    fn secret(text: &str) -> Secret {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        SecretSource::file(file.path()).read().unwrap()
    }

    /// The signature of the examples' account.
    fn signature(method: &str, path: &str, query: &str, headers: &[(&str, &str)], payload: &str) -> String {
        let signer = Signer {
            access_key: secret("AKIAIOSFODNN7EXAMPLE"),
            secret_key: secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            region: "us-east-1".to_owned(),
        };
        let authorization = signer.authorization(&Canonical { method, path, query, headers, payload }, STAMP);
        let expected = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=";
        assert!(authorization.starts_with(expected), "{authorization}");
        authorization.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    /// The four examples of the page named above.
    #[test]
    fn the_published_examples_are_signed_as_published() {
        let plain = [HOST, ("x-amz-content-sha256", EMPTY), ("x-amz-date", STAMP)];
        let ranged = [HOST, ("range", "bytes=0-9"), ("x-amz-content-sha256", EMPTY), ("x-amz-date", STAMP)];
        let welcome = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        let put = [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            HOST,
            ("x-amz-content-sha256", welcome),
            ("x-amz-date", STAMP),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        let get = signature("GET", "/test.txt", "", &ranged, EMPTY);
        assert_eq!(get, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
        let put = signature("PUT", &encode("/test$file.text", true), "", &put, welcome);
        assert_eq!(put, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
        let lifecycle = signature("GET", "/", "lifecycle=", &plain, EMPTY);
        assert_eq!(lifecycle, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
        let list = signature("GET", "/", "max-keys=2&prefix=J", &plain, EMPTY);
        assert_eq!(list, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    }

    #[test]
    fn a_stamp_is_whole_seconds_of_utc() {
        let at = Time::parse("2013-05-24T00:00:00Z").unwrap();
        assert_eq!(stamp(at), STAMP);
        assert_eq!(stamp(at + Span::from_us(999_999)), STAMP);
    }

    #[test]
    fn what_is_not_unreserved_is_encoded() {
        assert_eq!(encode("a/b c+~é", true), "a/b%20c%2B~%C3%A9");
        assert_eq!(encode("a/b", false), "a%2Fb");
    }
}
