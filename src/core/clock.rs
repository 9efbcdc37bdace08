//! What time it is, as far as the API server says: deadlines rest on its clock, so ends must too, whatever this machine's clock does.
//!
//! An answer's `Date` says in which second it was given, some time between the question and the answer. So server time is known within bounds, which run on
//! with a monotonic clock and become narrower with every answer. The machine's clock counts as far as it stays within them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::lease::Moment;

/// A clock that is off by more than this stops granting.
pub const TOLERANCE: TimeDelta = TimeDelta::seconds(5);
/// `Date` has whole seconds.
const SECOND: TimeDelta = TimeDelta::seconds(1);
/// Two clocks may differ in speed by one part in so many.
const DRIFT: u32 = 5_000;
/// While a machine's clock is being set right little by little, its monotonic one runs with it: too fast or too slow by one part in so many, at most.
const SLEWED: u32 = 10;
/// Between two answers it gains no more than this, however far apart they are.
const MOST_SLEWED: Duration = Duration::from_secs(5);

/// Server time at a moment lies between these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    at: Moment,
    earliest: DateTime<Utc>,
    latest: DateTime<Utc>,
}

impl Bounds {
    /// The same bounds at a later moment.
    fn at(self, at: Moment) -> Self {
        let passed = at.saturating_sub(self.at);
        Self {
            at,
            earliest: self.earliest + passed - passed / DRIFT,
            latest: self.latest + passed + passed / DRIFT,
        }
    }
}

/// What is known of the API server's clock.
#[derive(Clone, Debug, Default)]
pub struct ServerClock {
    bounds: Option<Bounds>,
    /// What it was known to have reached before it was set back. That runs on, so that no end is delayed.
    reached: Option<(Moment, DateTime<Utc>)>,
}

impl ServerClock {
    /// An answer bore this `Date`; it was asked for at `sent`, and came at `received`.
    pub fn heard(&mut self, date: DateTime<Utc>, sent: Moment, received: Moment) {
        let heard = Bounds {
            at: received,
            earliest: date,
            latest: date + SECOND + received.saturating_sub(sent),
        };
        let Some(before) = self.bounds else {
            self.bounds = Some(heard);
            return;
        };
        let known = before.at(received);
        let both = Bounds {
            at: received,
            earliest: heard.earliest.max(known.earliest),
            latest: heard.latest.min(known.latest),
        };
        if both.earliest <= both.latest {
            self.bounds = Some(both);
            return;
        }
        // It was set, forth or back; or this machine is, which in this time doesn't get further than that. By whole seconds it can have gone unnoticed for one.
        let slewed = (received.saturating_sub(before.at) / SLEWED).min(MOST_SLEWED);
        if heard.latest + SECOND + slewed < known.earliest {
            let reached = self.reached_by(received);
            self.reached = Some((
                received,
                reached.map_or(known.earliest, |reached| reached.max(known.earliest)),
            ));
        }
        self.bounds = Some(heard);
    }

    /// The time, by this machine's clock, that of the server, and a monotonic one.
    pub fn now(&self, wall: DateTime<Utc>, at: Moment) -> DateTime<Utc> {
        let within = match self.bounds.map(|known| known.at(at)) {
            Some(Bounds { earliest, latest, .. }) => wall.min(latest).max(earliest),
            None => wall,
        };
        self.reached_by(at).map_or(within, |reached| reached.max(within))
    }

    /// How far this machine's clock is ahead of what the server's can be (behind it, if negative), or the server's behind what it was.
    pub fn skew(&self, wall: DateTime<Utc>, at: Moment) -> TimeDelta {
        let Some(Bounds { earliest, latest, .. }) = self.bounds.map(|known| known.at(at)) else {
            return TimeDelta::zero();
        };
        let own = if wall < earliest {
            wall - earliest
        } else {
            (wall - latest).max(TimeDelta::zero())
        };
        let set_back = self
            .reached_by(at)
            .map_or(TimeDelta::zero(), |reached| reached - latest);
        if set_back > own.abs() { set_back } else { own }
    }

    fn reached_by(&self, at: Moment) -> Option<DateTime<Utc>> {
        let (since, reached) = self.reached?;
        Some(reached + at.saturating_sub(since))
    }
}

/// In seconds, as a metric has it.
pub fn seconds(delta: TimeDelta) -> f64 {
    let exact = delta.abs().to_std().unwrap_or(Duration::MAX).as_secs_f64();
    if delta < TimeDelta::zero() { -exact } else { exact }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 08:00 and so many seconds.
    fn time(seconds: f64) -> DateTime<Utc> {
        "2027-01-15T08:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::milliseconds((seconds * 1000.0) as i64)
    }

    fn at(seconds: f64) -> Moment {
        Duration::from_secs_f64(seconds)
    }

    /// Heard at the moment 0 that it was 08:00:00 or up to a second later, after a call that took no time.
    fn heard() -> ServerClock {
        let mut clock = ServerClock::default();
        clock.heard(time(0.0), at(0.0), at(0.0));
        clock
    }

    #[test]
    fn the_own_clock_counts_within_what_the_server_said_and_the_server_beyond_it() {
        for (wall, now, skew) in [
            (0.0, 0.0, 0.0),
            (0.7, 0.7, 0.0),
            (1.0, 1.0, 0.0),
            (3.0, 1.0, 2.0),
            (3600.0, 1.0, 3599.0),
            (-0.5, 0.0, -0.5),
            (-3600.0, 0.0, -3600.0),
        ] {
            let clock = heard();
            assert_eq!(clock.now(time(wall), at(0.0)), time(now), "{wall}");
            assert_eq!(seconds(clock.skew(time(wall), at(0.0))), skew, "{wall}");
        }
    }

    #[test]
    fn before_anything_was_heard_the_own_clock_counts() {
        let clock = ServerClock::default();
        assert_eq!(clock.now(time(9.0), at(1.0)), time(9.0));
        assert_eq!(clock.skew(time(9.0), at(1.0)), TimeDelta::zero());
    }

    #[test]
    fn an_own_clock_that_stops_or_is_set_back_delays_nothing_server_time_runs_on() {
        let clock = heard();
        for wall in [-3600.0, 0.0, 5.0] {
            let now = clock.now(time(wall), at(100.0));
            assert!(now >= time(99.9) && now <= time(101.1), "{now}");
        }
    }

    #[test]
    fn a_slow_call_says_less_than_a_quick_one_and_two_say_more_than_one() {
        let mut clock = ServerClock::default();
        clock.heard(time(0.0), at(0.0), at(3.0));
        assert_eq!(clock.now(time(99.0), at(3.0)), time(4.0));
        assert_eq!(clock.now(time(-99.0), at(3.0)), time(0.0));
        clock.heard(time(4.0), at(3.5), at(3.5));
        let narrow = clock.now(time(99.0), at(3.5)) - clock.now(time(-99.0), at(3.5));
        assert!(narrow <= TimeDelta::milliseconds(502), "{narrow}");
    }

    #[test]
    fn a_server_that_is_set_forth_is_followed() {
        let mut clock = heard();
        clock.heard(time(3600.0), at(1.0), at(1.0));
        assert_eq!(clock.now(time(1.0), at(1.0)), time(3600.0));
        assert_eq!(seconds(clock.skew(time(1.0), at(1.0))), -3599.0);
    }

    #[test]
    fn a_server_that_is_set_back_delays_no_end_and_is_told_of() {
        let mut clock = heard();
        clock.heard(time(-3600.0), at(10.0), at(10.0));
        let now = clock.now(time(10.0), at(20.0));
        assert!(now >= time(19.9), "what it had reached runs on: {now}");
        let skew = clock.skew(time(-3590.0), at(20.0));
        assert!(skew > TimeDelta::seconds(3590), "{skew}");
        clock.heard(time(30.0), at(30.0), at(30.0));
        assert!(clock.skew(time(30.5), at(30.0)) < TOLERANCE, "it is right again");
    }

    /// By chrony, a twelfth too fast: its monotonic clock too.
    #[test]
    fn a_machine_that_is_being_set_right_is_no_server_that_was_set_back() {
        // How far apart the answers are: the edge of a second is met in many ways.
        for apart in [0.01, 0.3, 0.75, 1.0, 1.95, 5.9, 7.1] {
            let (mut clock, mut server) = (heard(), 0.0);
            while server < 120.0 {
                server += apart;
                let own = server * 13.0 / 12.0;
                clock.heard(time(f64::floor(server)), at(own), at(own));
                let (now, skew) = (clock.now(time(server), at(own)), clock.skew(time(server), at(own)));
                assert!(
                    (now - time(server)).abs() <= SECOND * 2,
                    "every {apart} s, at {server}: {now}"
                );
                assert!(skew.abs() <= SECOND * 2, "every {apart} s, at {server}: {skew}");
            }
        }
    }

    #[test]
    fn after_a_long_silence_too_a_server_that_was_set_back_delays_no_end() {
        let mut clock = heard();
        clock.heard(time(592.0), at(600.0), at(600.0));
        let now = clock.now(time(592.0), at(600.0));
        assert!(now >= time(599.8), "{now}");
    }

    #[test]
    fn of_several_servers_with_different_clocks_the_one_furthest_ahead_counts_and_it_is_told_of() {
        let mut clock = ServerClock::default();
        for (second, ahead) in [(0.0, 10.0), (1.0, 0.0), (2.0, 10.0), (3.0, -10.0), (4.0, 0.0)] {
            clock.heard(time(second + ahead), at(second), at(second));
            let now = clock.now(time(second), at(second));
            assert!(
                now >= time(second + 9.9) && now <= time(second + 11.1),
                "at {second}: {now}"
            );
            let skew = clock.skew(time(second), at(second)).abs();
            assert!(skew > TOLERANCE, "at {second}: {skew}");
        }
    }

    #[test]
    fn what_was_heard_says_less_the_longer_ago_it_was_by_as_much_as_clocks_may_drift() {
        let (clock, later) = (heard(), 1000.0);
        let drifted = later / f64::from(DRIFT);
        assert_eq!(clock.now(time(99_999.0), at(later)), time(1.0 + later + drifted));
        assert_eq!(clock.now(time(-99_999.0), at(later)), time(later - drifted));
    }
}
