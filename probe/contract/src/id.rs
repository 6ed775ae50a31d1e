//! The names of things. One type each, so that a target is never taken for a vantage.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        // Lets a map keyed by the id be asked with the text of a record, without copying it.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

id!(
    /// One thing that is checked: one canary VM, one bucket, one URL.
    TargetId
);
id!(
    /// One place that checks: normally one probe per availability zone.
    VantageId
);
id!(
    /// What an SLA line speaks of in one scope: `compute/az05`, `s3/fr1`.
    ServiceId
);
id!(
    /// A contractual line: `IC-INFRA_SNC-01`.
    IndicatorId
);
id!(
    /// A customer's notification: the number of its ticket.
    ClaimId
);
id!(
    /// An approved period that does not count.
    ExclusionId
);
id!(
    /// 128 random bits, drawn at each start of a probe's process, as text.
    RunId
);
