//! Bad weather: what befalls people, replicas, clocks and the cluster in it, by chance. Whatever is broken is set right again some time later.

use std::time::Duration;

use tokio::time::Instant;

use super::{Schedule, TICK, Undo};
use crate::apiserver::Who;
use crate::auditor::delta;
use crate::replica::BEGINS;
use crate::weather::Storm;

/// The longest that a replica or kube-controller-manager is away.
const AWAY: Duration = Duration::from_secs(40);
/// A Lease that nobody holds any more is taken after so long.
const LEASE: Duration = Duration::from_secs(30);
/// A replica has heard that time leapt after so long: it renews the Lease every few seconds.
const HEARS: Duration = Duration::from_secs(15);

impl Schedule<'_> {
    pub(super) async fn storm(&mut self) -> Result<(), String> {
        let (calls, watches) = [(0, 0), (5, 5), (20, 10), (100, 30)][self.chance.below(4)];
        self.weather.state().storm = Storm { calls, watches };
        let until = Instant::now() + Duration::from_secs(self.chance.between(8, 40));
        let what = self.people.asks();
        self.tell(what);
        while Instant::now() < until {
            let pause = self.chance.mostly_short(Duration::from_secs(5));
            self.passes(pause).await?;
            self.undo();
            let what = self.happens();
            self.tell(what);
        }
        Ok(())
    }

    /// Something happens.
    fn happens(&mut self) -> String {
        let unsettled = self.server.now() + delta(Duration::from_secs(10));
        self.weather.state().auditor.unsettles(unsettled);
        match self.chance.below(104) {
            0..12 => self.people.asks(),
            12..45 => self.people.speaks(),
            45..60 => self.people.approve(),
            60..64 => self.people.forges(),
            64..76 => self.people.meddle(),
            76..90 => self.befalls_replica(),
            90..94 => {
                self.later(Undo::Guards);
                self.people.breaks_guard()
            }
            94..96 => {
                self.server.act(Who::Another, |store, _| store.compact());
                "what was before is forgotten".into()
            }
            96..98 => self.kube_stalls(),
            98 => {
                self.later(Undo::Namespaces);
                self.people.deletes_namespace()
            }
            99 => {
                self.later(Undo::Definitions);
                self.people.deletes_definition()
            }
            100 => self.somebody_uninstalls(),
            101 => self.kube_clock_is_wrong(),
            102 => self.time_leaps(),
            _ => {
                let number = self.chance.below(self.replicas.len());
                let ahead = self.chance.milliseconds(-40_000, 40_000);
                self.replicas[number].set_clock(ahead);
                format!("the clock of replica {number} is {} s ahead", ahead.num_seconds())
            }
        }
    }

    /// Something is set right, some time from now.
    fn later(&mut self, what: Undo) -> Duration {
        let length = self.chance.mostly_short(AWAY) + TICK;
        self.undone.push((Instant::now() + length, what));
        length
    }

    fn befalls_replica(&mut self) -> String {
        let number = self.chance.below(self.replicas.len());
        let is_taken =
            |undo: &Undo| matches!(undo, Undo::Start(it, _) | Undo::Resume(it) | Undo::Reconnect(it) if *it == number);
        if self.undone.iter().any(|(_, undo)| is_taken(undo)) {
            return format!("nothing befalls replica {number}");
        }
        let what = self.chance.below(6);
        let undo = match what {
            0..3 => Undo::Start(number, self.chance.in_thousand(500)),
            3 | 4 => Undo::Resume(number),
            _ => Undo::Reconnect(number),
        };
        let length = self.later(undo);
        let replica = &mut self.replicas[number];
        let told = match what {
            0 | 1 => {
                replica.kill();
                "killed"
            }
            2 => {
                replica.tell_to_end();
                "told to end"
            }
            3 | 4 => {
                replica.pause(true);
                "paused"
            }
            _ => {
                self.server.cut_off(replica.who(), true);
                "cut off"
            }
        };
        self.hinders(number, length);
        format!("replica {number} is {told} for {length:?}")
    }

    /// A replica is away for so long, and needs some time to find its way again.
    fn hinders(&self, number: usize, length: Duration) {
        let back = self.server.now() + delta(length + BEGINS + LEASE);
        let auditor = &mut self.weather.state().auditor;
        auditor.hinders(self.replicas[number].who(), back);
        auditor.unsettles(back);
    }

    /// Somebody begins to uninstall Curfew, and thinks better of it.
    fn somebody_uninstalls(&mut self) -> String {
        if self.uninstaller.is_there() {
            return "it is being uninstalled already".into();
        }
        let length = self.later(Undo::Uninstaller);
        self.uninstaller.uninstall();
        let back = self.server.now() + delta(length + BEGINS + LEASE);
        self.weather.state().auditor.unsettles(back);
        format!("Curfew is being uninstalled for {length:?}")
    }

    /// All clocks are set forth together, or the API server's alone.
    fn time_leaps(&mut self) -> String {
        let ahead = self.chance.milliseconds(1_000, 60_000);
        self.server.leaps(ahead);
        let alone = self.chance.in_thousand(500);
        let until = self.server.now() + delta(HEARS);
        let auditor = &mut self.weather.state().auditor;
        auditor.leaps(ahead);
        auditor.unsettles(until);
        for replica in &self.replicas {
            if alone {
                replica.set_clock(-ahead);
            }
            auditor.hinders(replica.who(), until);
        }
        // It looks at once: what was far away may be due.
        self.kube.send_modify(|_| {});
        let whose = if alone { "the API server's clock" } else { "every clock" };
        format!("{whose} is set forth by {} s", ahead.num_seconds())
    }

    fn kube_clock_is_wrong(&mut self) -> String {
        let length = self.chance.mostly_short(2 * AWAY);
        self.kube_ahead_until = Instant::now() + length;
        let ahead = self.chance.milliseconds(-20_000, 20_000);
        self.kube.send_modify(|kube| kube.ahead = ahead);
        self.hinders_kube(length);
        format!(
            "kube-controller-manager's clock is {} s ahead for {length:?}",
            ahead.num_seconds()
        )
    }

    fn kube_stalls(&mut self) -> String {
        let length = self.chance.mostly_short(2 * AWAY);
        self.stalled_until = Instant::now() + length;
        self.kube.send_modify(|kube| kube.stalls = true);
        self.hinders_kube(length);
        format!("kube-controller-manager stalls for {length:?}")
    }

    fn hinders_kube(&self, length: Duration) {
        let until = self.server.now() + delta(length + TICK * 2);
        self.weather.state().auditor.hinders_kube(until);
    }

    /// Sets right what it is time for.
    fn undo(&mut self) {
        let now = Instant::now();
        let (goes_on, is_right) = (self.stalled_until <= now, self.kube_ahead_until <= now);
        self.kube.send_if_modified(|kube| kube.sets_right(goes_on, is_right));
        let (due, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.undone)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.undone = left;
        for (_, undo) in due {
            self.sets_right(undo);
        }
    }

    pub(super) fn sets_right(&mut self, undo: Undo) {
        let what = match undo {
            Undo::Start(number, anew) => {
                self.replicas[number].kill();
                self.replicas[number].start(anew);
                format!("replica {number} starts")
            }
            Undo::Resume(number) => {
                self.replicas[number].pause(false);
                format!("replica {number} goes on")
            }
            Undo::Reconnect(number) => {
                self.server.cut_off(self.replicas[number].who(), false);
                format!("replica {number} is reached again")
            }
            Undo::Guards => self.people.restores_guards(),
            Undo::Namespaces => self.people.restores_namespaces(),
            Undo::Definitions => self.people.restores_definitions(),
            Undo::Uninstaller => {
                self.uninstaller.tell_to_end();
                "nobody uninstalls it any more".into()
            }
        };
        self.tell(what);
    }
}
