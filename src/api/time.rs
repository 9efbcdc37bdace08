//! The one place where Kubernetes' time type meets the core's, and where what can't be read is read all the same.
//!
//! The API server keeps moments that no reader takes, such as the last day of the year 9999, and numbers that don't fit. One such field in one object would keep a
//! watch from all objects of its kind: then nothing is ended but by its anchor. So each field that holds one says how it is read.

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Recognisable, never in the future, and one that the API server takes: the beginning of the year 1.
const NEVER: Time = Time(Timestamp::constant(-62_135_596_800, 0));

/// The core's form of a time from the API server. `None` only for years beyond chrono's range, which no API server writes.
pub fn from_kubernetes(time: &Time) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(
        time.0.as_second(),
        u32::try_from(time.0.subsec_nanosecond()).unwrap_or(0),
    )
}

/// When an object was made, by the API server's clock. Long ago where it doesn't say so, which none that is stored does.
pub fn created(metadata: &ObjectMeta) -> DateTime<Utc> {
    let created = metadata.creation_timestamp.as_ref();
    created.and_then(from_kubernetes).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Reads a time that a person wrote, in whole seconds as everything else: what is to begin within a second begins at its end. One that can't be read is long past, whatever it was meant to be: an object that is there must be read all the same.
///
/// # Errors
/// When it is no text.
pub fn written_by_people<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Time>, D::Error> {
    let written = Option::<String>::deserialize(reader)?;
    Ok(written.map(|written| serde_json::from_value(written.into()).map_or(NEVER, whole)))
}

/// Reads a time that the operator writes and that must be there. One that can't be read is long past.
///
/// # Errors
/// When it is no JSON.
pub fn in_any_case<'de, D: Deserializer<'de>>(reader: D) -> Result<Time, D::Error> {
    let written = Value::deserialize(reader)?;
    Ok(serde_json::from_value(written).unwrap_or(NEVER))
}

/// Reads what the operator writes and what may be absent: what can't be read is.
///
/// # Errors
/// When it is no JSON.
pub fn if_legible<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(reader: D) -> Result<T, D::Error> {
    let written = Value::deserialize(reader)?;
    Ok(serde_json::from_value(written).unwrap_or_default())
}

fn whole(Time(time): Time) -> Time {
    let second = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
    Timestamp::from_second(second).map_or(NEVER, Time)
}

/// The API server's form of a time, in whole seconds as the API server keeps it.
pub fn to_kubernetes(time: DateTime<Utc>) -> Time {
    // Out of jiff's range there is no time to tell.
    Timestamp::from_second(time.timestamp()).map_or(NEVER, Time)
}

/// The API server's form of a time where it keeps fractions of a second.
pub fn to_micro(time: DateTime<Utc>) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(time.timestamp_micros()).unwrap_or(NEVER.0))
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

    #[test]
    fn what_cannot_be_read_of_what_the_operator_wrote_is_long_past_or_not_there() {
        let beyond = || serde_json::Value::from("9999-12-31T23:59:59Z");
        assert_eq!(in_any_case(beyond()).unwrap(), NEVER);
        assert_eq!(serde_json::to_value(NEVER).unwrap(), "0001-01-01T00:00:00Z");
        assert_eq!(if_legible::<_, Option<Time>>(beyond()).unwrap(), None);
        assert_eq!(if_legible::<_, i32>(serde_json::json!(1e30)).unwrap(), 0);
        let time = Time(Timestamp::from_second(1_800_000_000).unwrap());
        let written = serde_json::to_value(&time).unwrap();
        assert_eq!(in_any_case(written.clone()).unwrap(), time);
        assert_eq!(if_legible::<_, Option<Time>>(written).unwrap(), Some(time));
    }

    #[test]
    fn what_cannot_be_read_of_what_a_person_wrote_is_long_past() {
        let read = |json: &str| written_by_people(&mut serde_json::Deserializer::from_str(json)).unwrap();
        assert_eq!(read("null"), None);
        assert_eq!(
            read(r#""2027-01-15T09:00:00+01:00""#),
            Some(Time(Timestamp::from_second(1_800_000_000).unwrap()))
        );
        assert_eq!(
            read(r#""2027-01-15T07:59:59.001Z""#),
            Some(Time(Timestamp::from_second(1_800_000_000).unwrap()))
        );
        for beyond in [
            r#""9999-12-31T23:59:59Z""#,
            r#""2030-01-01T00:00:00ZTrubbish""#,
            r#""""#,
        ] {
            assert_eq!(read(beyond), Some(NEVER), "{beyond}");
        }
    }
}
