//! A bucket of an object store that speaks S3, and the file that describes it. Calls block; they run on a tokio runtime's threads.
//!
//! ```toml
//! endpoint = "https://namespace.s3.fr1.cloud-temple.com"
//! bucket = "vigie-archive"
//! prefix = "alpha"                       # optional: what stands in front of every name
//! region = "fr1"
//! access_key_file = "s3-access-key"      # beside this file, unless the path is absolute
//! secret_key_file = "s3-secret-key"
//! ca = "ca.pem"                          # optional: the authorities to trust besides the system's
//! ```
//!
//! Requests are signed by version 4 with an unsigned payload and name the bucket in the path, as Dell ECS wants them.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs, io};

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{Certificate, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio_rustls::rustls::crypto::ring;

/// One request is given up after this; a segment has a few MB.
const ANSWER: Duration = Duration::from_secs(60);
/// A failed request is tried again at once for so long; whoever archives comes again anyway.
const RETRIES: RetryConfig = RetryConfig {
    backoff: object_store::BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(5), base: 2.0 },
    max_retries: 3,
    retry_timeout: Duration::from_secs(60),
};

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// Its settings are wrong.
    #[error("{}: {why}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong, all of it.
        why: String,
    },
    /// The object store does not do what it is asked.
    #[error("bucket {bucket}, {name}: {cause}")]
    Store {
        /// Which bucket.
        bucket: String,
        /// What it was asked for.
        name: String,
        /// Why.
        cause: object_store::Error,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    endpoint: String,
    bucket: String,
    #[serde(default)]
    prefix: String,
    region: String,
    access_key_file: PathBuf,
    secret_key_file: PathBuf,
    ca: Option<PathBuf>,
}

/// A bucket.
pub(super) struct Bucket {
    name: String,
    prefix: String,
    store: AmazonS3,
    runtime: Handle,
}

impl fmt::Debug for Bucket {
    /// Without what the client knows: the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Bucket {
    /// As the file at `path` describes it; nothing is asked of it yet.
    pub(super) fn open(path: &Path) -> Result<Self, BucketError> {
        let wrong = |why: String| BucketError::Settings { path: path.to_owned(), why };
        let text = fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        // Without the line itself: somebody may have written a key into it.
        let settings: Settings = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            wrong(format!("line {line}: {}", error.message()))
        })?;
        let runtime = Handle::try_current().map_err(|error| wrong(error.to_string()))?;
        let store = settings.store(path.parent().unwrap_or(Path::new(""))).map_err(wrong)?;
        Ok(Self { name: settings.bucket, prefix: settings.prefix.trim_matches('/').to_owned(), store, runtime })
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn place(&self, prefix: &str, name: &str) -> PathBuf {
        PathBuf::from(format!("s3://{}/{}", self.name, key(prefix, name)))
    }

    /// Everything that stands directly below `prefix`.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        let at = key(prefix, "");
        let listed = self.wait(&at, self.store.list_with_delimiter(Some(&at)))?;
        let objects = listed.objects.iter().map(|object| &object.location);
        let names = objects.chain(&listed.common_prefixes).filter_map(|path| path.filename());
        Ok(names.map(str::to_owned).collect())
    }

    pub(super) fn get(&self, prefix: &str, name: &str) -> Result<Vec<u8>, BucketError> {
        let at = key(prefix, name);
        Ok(self.wait(&at, async { self.store.get(&at).await?.bytes().await })?.to_vec())
    }

    pub(super) fn put(&self, prefix: &str, name: &str, bytes: &[u8]) -> Result<(), BucketError> {
        let at = key(prefix, name);
        self.wait(&at, self.store.put(&at, PutPayload::from(bytes.to_vec()))).map(|_| ())
    }

    pub(super) fn remove(&self, prefix: &str, name: &str) -> Result<(), BucketError> {
        let at = key(prefix, name);
        match self.wait(&at, self.store.delete(&at)) {
            Err(BucketError::Store { cause: object_store::Error::NotFound { .. }, .. }) => Ok(()),
            done => done,
        }
    }

    fn wait<T>(&self, at: &object_store::path::Path, asked: impl Future<Output = object_store::Result<T>>) -> Result<T, BucketError> {
        let failed = |cause| BucketError::Store { bucket: self.name.clone(), name: at.to_string(), cause };
        self.runtime.block_on(asked).map_err(failed)
    }
}

fn key(prefix: &str, name: &str) -> object_store::path::Path {
    object_store::path::Path::from(format!("{prefix}/{name}"))
}

impl Settings {
    /// All mistakes at once; files lie in `base`.
    fn store(&self, base: &Path) -> Result<AmazonS3, String> {
        let mut wrong = Vec::new();
        let mut read = |name: &str, file: &Path| -> Vec<u8> {
            let cannot = |error: io::Error| wrong.push(format!("`{name}` is {}: {error}", file.display()));
            fs::read(base.join(file)).map_err(cannot).unwrap_or_default()
        };
        let access_key = read("access_key_file", &self.access_key_file);
        let secret_key = read("secret_key_file", &self.secret_key_file);
        let ca = self.ca.as_ref().map(|ca| read("ca", ca));
        let mut options = ClientOptions::new().with_timeout(ANSWER).with_connect_timeout(Duration::from_secs(10)).with_allow_http(true);
        match ca.map(|pem| Certificate::from_pem_bundle(&pem)) {
            None => {}
            Some(Err(error)) => wrong.push(format!("`ca`: {error}")),
            Some(Ok(authorities)) => options = authorities.into_iter().fold(options, ClientOptions::with_root_certificate),
        }
        if !self.endpoint.starts_with("https://") && !self.endpoint.starts_with("http://") {
            wrong.push(format!("`endpoint` is `{}`: write https://host", self.endpoint));
        }
        if self.bucket.is_empty() || self.bucket.contains('/') {
            wrong.push(format!("`bucket` is `{}`: write its name alone", self.bucket));
        }
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        // The client takes the process's, of which there may be one already.
        let _ = ring::default_provider().install_default();
        let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let builder = AmazonS3Builder::new()
            .with_endpoint(self.endpoint.trim_end_matches('/'))
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_access_key_id(word(&access_key))
            .with_secret_access_key(word(&secret_key))
            .with_virtual_hosted_style_request(false)
            .with_unsigned_payload(true)
            .with_retry(RETRIES)
            .with_client_options(options);
        builder.build().map_err(|error| error.to_string())
    }
}
