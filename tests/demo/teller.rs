//! Tells the story: says each command, runs it, shows the answer, and insists that it is the one that was told.

use std::io::{IsTerminal, Write};

use curfew_testbed::User;

use crate::failure::Failure;

/// Writes to standard output.
pub struct Teller {
    bold: bool,
}

impl Teller {
    /// On a terminal, commands are bold, unless `NO_COLOR` is set.
    pub fn new() -> Self {
        Self {
            bold: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// Begins a chapter.
    pub fn chapter(&self, title: &str) -> Result<(), Failure> {
        self.line(&format!("\n## {title}"))
    }

    /// One line.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(std::io::stdout().lock(), "{text}")?)
    }

    /// Runs a kubectl command that is to succeed and to say `expected`. Returns what it said.
    pub async fn answers(&self, who: &User, command: &str, expected: &str) -> Result<String, Failure> {
        self.say(who, command)?;
        let answer = who.kubectl(words(command)).await?;
        self.line(answer.stdout.trim_end())?;
        if !answer.succeeded() {
            self.line(answer.stderr.trim_end())?;
            return Err(Failure::NotAsTold(format!(
                "`kubectl {command}` of {} was to succeed",
                who.name()
            )));
        }
        if !answer.stdout.contains(expected) {
            return Err(Failure::NotAsTold(format!(
                "`kubectl {command}` of {} was to say {expected:?}",
                who.name()
            )));
        }
        Ok(answer.stdout)
    }

    /// Runs a kubectl command that is to be refused, because of `why`.
    pub async fn is_refused(&self, who: &User, command: &str, why: &str) -> Result<(), Failure> {
        self.say(who, command)?;
        let answer = who.kubectl(words(command)).await?;
        self.line(format!("{}{}", answer.stdout, answer.stderr).trim_end())?;
        if answer.succeeded() {
            return Err(Failure::NotAsTold(format!(
                "`kubectl {command}` of {} was to be refused",
                who.name()
            )));
        }
        if !answer.stderr.contains(why) {
            return Err(Failure::NotAsTold(format!(
                "`kubectl {command}` of {} was to be refused for another reason: {why:?}",
                who.name()
            )));
        }
        Ok(())
    }

    fn say(&self, who: &User, command: &str) -> Result<(), Failure> {
        let (on, off) = if self.bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.line(&format!("{on}{}$ kubectl {command}{off}", who.name()))
    }
}

/// The words of a command line as a shell makes them, with single quotes and no other finesse: what is shown can be typed.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (vec![], String::new(), false);
    for character in command.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(character),
        }
    }
    words.push(word);
    words
}
