//! The operator under test: killed and started again, and a record of when it was away.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use curfew_testbed::Operator;
use tokio::runtime::Handle;

use crate::history::now;

/// From when until when the operator was not there, or not ready.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    pub from: DateTime<Utc>,
    /// When it was ready again.
    pub until: Option<DateTime<Utc>>,
}

/// The operator. Cheap to clone.
#[derive(Clone)]
pub struct Patient {
    operator: Operator,
    outages: Arc<Mutex<Vec<Outage>>>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Patient {
    pub fn new(operator: Operator) -> Self {
        Self {
            operator,
            outages: Arc::default(),
            failures: Arc::default(),
        }
    }

    /// kill -9, and at once the next one; returns when the old one is gone.
    pub fn kill_and_start(&self) {
        let number = {
            let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
            outages.push(Outage {
                from: now(),
                until: None,
            });
            // It was killed for another fault just now, perhaps.
            let _ = self.operator.kill();
            self.operator.spawn().unwrap();
            outages.len()
        };
        let (patient, runtime) = (self.clone(), Handle::current());
        tokio::task::spawn_blocking(move || runtime.block_on(patient.comes_back(number)));
    }

    async fn comes_back(&self, number: usize) {
        let ready = self.operator.wait_until_ready().await;
        let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        // If it was killed again meanwhile, that other start is waited for.
        if outages.len() != number {
            return;
        }
        match ready {
            Ok(()) => {
                for outage in outages.iter_mut().filter(|outage| outage.until.is_none()) {
                    outage.until = Some(now());
                }
            }
            // Its port was taken in between, perhaps; whatever it was, it is in the summary.
            Err(error) => {
                self.failures(|failures| failures.push(error.to_string()));
                drop(outages);
                self.kill_and_start();
            }
        }
    }

    /// Starts that led to nothing.
    pub fn failures<T>(&self, look: impl FnOnce(&mut Vec<String>) -> T) -> T {
        look(&mut self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When it was away.
    pub fn outages(&self) -> Vec<Outage> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it wrote to its log about an instance.
    pub fn said_of(&self, id: &str) -> String {
        let (log, named) = (self.operator.log(), format!("{id}\""));
        let about: Vec<&str> = log.lines().filter(|line| line.contains(&named)).collect();
        about.join("\n")
    }
}
