//! The one place where Kubernetes' time type meets the core's.

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;

/// The core's form of a time from the API server. `None` only for years beyond chrono's range, which no API server writes.
pub fn from_kubernetes(time: &Time) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(
        time.0.as_second(),
        u32::try_from(time.0.subsec_nanosecond()).unwrap_or(0),
    )
}

/// The API server's form of a time, in whole seconds as the API server keeps it.
pub fn to_kubernetes(time: DateTime<Utc>) -> Time {
    // Out of jiff's range there is no time to tell; its minimum is recognisable and never in the future.
    Time(Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MIN))
}

/// The API server's form of a time where it keeps fractions of a second.
pub fn to_micro(time: DateTime<Utc>) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(time.timestamp_micros()).unwrap_or(Timestamp::MIN))
}

/// A time as Curfew writes it in annotations and messages: RFC 3339, UTC, whole seconds.
pub fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_way_there_and_back() {
        let time = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        assert_eq!(from_kubernetes(&to_kubernetes(time)), Some(time));
        assert_eq!(written(time), "2027-01-15T08:00:00Z");
    }
}
