//! Whether a policy's chain of approvals can be met: by whom, by enough different people, and what happens when nobody decides.

use super::{MOST_STAGES, Obstacle, everybody, required};
use crate::api::{Approval, People, Stage};

/// So many approvals a request has room for, says the admission policy `curfew-decisions`: the rest is kept for denials and revocations.
const MOST_APPROVALS: i64 = 48;

/// Why nobody is ever granted anything by what a policy says of approval. Empty: somebody may be.
pub fn flaws(approval: Option<&Approval>) -> Vec<Obstacle> {
    let missing = || {
        vec![Obstacle::new(
            "ApprovalMissing",
            "approval names no stages, and what is missing never means granted; add approval.stages with approvers",
        )]
    };
    let Some(Approval {
        order: _,
        stages,
        break_glass,
    }) = approval
    else {
        return missing();
    };
    match (stages.is_empty(), break_glass) {
        (true, None) => missing(),
        (false, Some(_)) => vec![Obstacle::new(
            "ApprovalAmbiguous",
            "approval has both stages and breakGlass; keep one of the two",
        )],
        (true, Some(_)) => vec![],
        (false, None) => flaws_of_chain(stages),
    }
}

fn flaws_of_chain(stages: &[Stage]) -> Vec<Obstacle> {
    let mut flaws: Vec<_> = stages.iter().filter_map(flaw_of_stage).collect();
    let mut names: Vec<_> = stages.iter().map(|stage| &stage.name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        let name = twice.first().map(|name| name.as_str()).unwrap_or_default();
        flaws.push(Obstacle::new(
            "StageNamedTwice",
            format!("two stages are named {name:?}; a word must say which stage it was spoken in, so give each a name of its own"),
        ));
    }
    if flaws.is_empty() {
        flaws.extend(too_many(stages).or_else(|| never_met(stages)));
    }
    flaws
}

/// Why a chain can never be met: a request can't hold so many approvals.
fn too_many(stages: &[Stage]) -> Option<Obstacle> {
    let required: i64 = stages.iter().map(|stage| i64::from(required(stage))).sum();
    (required > MOST_APPROVALS).then(|| {
        let message =
            format!("the stages require {required} approvals together, and a request has room for {MOST_APPROVALS}");
        Obstacle::new("NeverMet", message)
    })
}

/// Why a chain can never be met: it requires more different people than it names, and no group that could have more.
fn never_met(stages: &[Stage]) -> Option<Obstacle> {
    // Whoever is in a group counts as one of as many as are needed.
    let names_no_group = |stage: &&Stage| everybody(stage).all(|people| people.groups.is_empty());
    let closed: Vec<&Stage> = stages.iter().filter(names_no_group).collect();
    let sets = (1_u64..1 << closed.len().min(MOST_STAGES)).map(|choice| {
        let chosen = closed
            .iter()
            .enumerate()
            .filter(move |(place, _)| choice & (1 << place) != 0);
        chosen.map(|(_, stage)| *stage).collect::<Vec<_>>()
    });
    // As many people as are required for each set of stages: then all can be met at once (Hall's theorem). The smallest set that fails says most.
    let mut failing: Vec<_> = sets
        .filter_map(|stages| {
            let required: i64 = stages.iter().map(|stage| i64::from(required(stage))).sum();
            let people = stages.iter().flat_map(|stage| everybody(stage));
            let mut people: Vec<_> = people.flat_map(People::usernames).collect();
            people.sort_unstable();
            people.dedup();
            let named = i64::try_from(people.len()).unwrap_or(i64::MAX);
            (named < required).then_some((stages, required, named))
        })
        .collect();
    failing.sort_by_key(|(stages, _, _)| stages.len());
    let (stages, required, named) = failing.into_iter().next()?;
    let names: Vec<_> = stages.iter().map(|stage| format!("{:?}", stage.name)).collect();
    let which = match names.as_slice() {
        [name] => format!("stage {name} requires {required} approvals and names"),
        several => format!(
            "stages {} require {required} different people and name",
            several.join(" and ")
        ),
    };
    Some(Obstacle::new(
        "NeverMet",
        format!("{which} {named} people and no group; one person counts once in the whole chain"),
    ))
}

fn flaw_of_stage(stage: &Stage) -> Option<Obstacle> {
    let Stage {
        name,
        approvers,
        required: _,
        timeout,
        escalate_to,
    } = stage;
    let required = required(stage);
    if approvers.is_empty() {
        return Some(Obstacle::new(
            "NobodyApproves",
            format!("stage {name:?} names no approvers"),
        ));
    }
    if required < 1 {
        return Some(Obstacle::new(
            "NobodyApproves",
            format!("stage {name:?} requires {required} approvals; at least 1 is needed"),
        ));
    }
    if let Some(invalid) = timeout.as_ref().and_then(|timeout| timeout.parse().err()) {
        return Some(Obstacle::new(
            "InvalidDuration",
            format!("timeout of stage {name:?}: {invalid}"),
        ));
    }
    match (escalate_to, timeout) {
        (Some(people), _) if people.is_empty() => Some(Obstacle::new(
            "NobodyApproves",
            format!(
                "stage {name:?} escalates to nobody; add users, groups or serviceAccounts to escalateTo, or take it out"
            ),
        )),
        (Some(_), None) => Some(Obstacle::new(
            "TimeoutMissing",
            format!("stage {name:?} says whom it escalates to and not when; add a timeout"),
        )),
        (Some(_), Some(_)) | (None, _) => None,
    }
}
