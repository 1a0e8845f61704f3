//! Who may be promoted: the replica with the most WAL of the right history, or nobody.
//!
//! Every server gets a verdict, also the ones that lose, because people ask. Preferences break
//! ties only; they never win over WAL.

use std::fmt;

use super::LostBytes;
use crate::cluster::{ByteCount, Lineage, Lsn, ServerId, SystemId, Timeline};

/// What is known of a server that might be promoted.
#[derive(Clone, Debug, PartialEq)]
pub struct Applicant {
    /// The server.
    pub server: ServerId,
    /// What stands in its way before its WAL is looked at.
    pub standing: Standing,
    /// The cluster that it belongs to.
    pub system_id: Option<SystemId>,
    /// The timeline that it is on.
    pub timeline: Option<Timeline>,
    /// The greatest of received and replayed.
    pub furthest: Option<Lsn>,
    /// Its replay is paused; it comes last among equals, because a promotion ends the pause late.
    pub replay_paused: bool,
}

/// Whether a server may stand for promotion at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A replica that answers, gets no more WAL, and may be promoted.
    Ready,
    /// The configuration says never.
    NotAllowed,
    /// It does not answer.
    NoAnswer,
    /// It still gets WAL, or could not be kept from it.
    StillReceives,
    /// It is quarantined.
    Quarantined,
    /// It is the primary that is being replaced.
    OldPrimary,
}

/// What a candidate must fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Criteria {
    /// The history of the primary that is being replaced.
    pub lineage: Lineage,
    /// The last flushed position that the primary told us.
    pub known_flushed: Option<Lsn>,
    /// How much of it may be missing.
    pub max_lost: LostBytes,
    /// The only server that may win, when an operator named one.
    pub only: Option<ServerId>,
}

/// The verdict over one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assessment {
    /// It has the most WAL.
    Chosen,
    /// It has as much WAL as the chosen one, and comes later in the list.
    AsGood,
    /// It has less WAL than the chosen one.
    Behind(ByteCount),
    /// An operator named another one.
    NotNamed,
    /// It is out for another reason than its WAL.
    Out(Standing),
    /// It belongs to another cluster.
    OtherCluster,
    /// It is on another timeline, or its timeline cannot be told.
    OtherTimeline(Option<Timeline>),
    /// Its position cannot be told.
    NoPosition,
    /// It has the most WAL, and still not enough.
    TooMuchLost(ByteCount),
    /// It has the most WAL, and nobody knows how much the primary had.
    LossUnknown,
}

/// One line of the record: a server, its WAL, its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessed {
    /// The server.
    pub server: ServerId,
    /// Its WAL.
    pub furthest: Option<Lsn>,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// The verdict.
    pub assessment: Assessment,
}

/// The choice, with the verdict over everybody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Who is to be promoted.
    pub chosen: Option<ServerId>,
    /// How much WAL known of the primary, or of any replica, the chosen one lacks.
    pub missing: Option<ByteCount>,
    /// The verdicts, in the order of the servers.
    pub assessed: Vec<Assessed>,
}

/// Chooses among `applicants`.
pub fn choose(criteria: &Criteria, applicants: &[Applicant]) -> Choice {
    let best = applicants
        .iter()
        .filter(|applicant| disqualified(criteria, applicant).is_none())
        .max_by_key(|applicant| {
            let first_in_list = std::cmp::Reverse(applicant.server);
            (applicant.furthest, !applicant.replay_paused, first_in_list)
        });
    let Some(best) = best else {
        return Choice {
            assessed: applicants
                .iter()
                .map(|applicant| assessed(applicant, disqualified(criteria, applicant)))
                .collect(),
            ..Choice::default()
        };
    };
    let has = best.furthest.unwrap_or(Lsn::ZERO);
    let known = known_end(criteria, applicants);
    let missing = known.map(|known| has.behind(known));
    let refusal = match (criteria.max_lost, missing) {
        (LostBytes::Any, _) => None,
        (LostBytes::AtMost(_), None) => Some(Assessment::LossUnknown),
        (LostBytes::AtMost(limit), Some(missing)) => {
            (missing > limit).then_some(Assessment::TooMuchLost(missing))
        }
    };
    Choice {
        chosen: refusal.is_none().then_some(best.server),
        missing,
        assessed: applicants
            .iter()
            .map(|applicant| {
                let out = disqualified(criteria, applicant);
                let verdict = out.unwrap_or_else(|| match applicant.furthest {
                    _ if applicant.server == best.server => refusal.unwrap_or(Assessment::Chosen),
                    Some(furthest) if furthest < has => Assessment::Behind(furthest.behind(has)),
                    Some(_) | None => Assessment::AsGood,
                });
                assessed(applicant, Some(verdict))
            })
            .collect(),
    }
}

/// The end of the WAL as far as anybody knows it: a replica that may not win still counts, since
/// what it has was written.
fn known_end(criteria: &Criteria, applicants: &[Applicant]) -> Option<Lsn> {
    let witnessed = applicants
        .iter()
        .filter(|applicant| match applicant.standing {
            Standing::Ready | Standing::NotAllowed => {
                applicant.system_id == Some(criteria.lineage.system_id)
                    && applicant.timeline == Some(criteria.lineage.timeline)
            }
            Standing::NoAnswer
            | Standing::StillReceives
            | Standing::Quarantined
            | Standing::OldPrimary => false,
        })
        .filter_map(|applicant| applicant.furthest)
        .max();
    criteria
        .known_flushed
        .map(|known| witnessed.map_or(known, |seen| known.max(seen)))
}

fn disqualified(criteria: &Criteria, applicant: &Applicant) -> Option<Assessment> {
    match applicant.standing {
        Standing::Ready => {}
        Standing::NotAllowed
        | Standing::NoAnswer
        | Standing::StillReceives
        | Standing::Quarantined
        | Standing::OldPrimary => return Some(Assessment::Out(applicant.standing)),
    }
    if applicant.system_id != Some(criteria.lineage.system_id) {
        return Some(Assessment::OtherCluster);
    }
    if applicant.timeline != Some(criteria.lineage.timeline) {
        return Some(Assessment::OtherTimeline(applicant.timeline));
    }
    if applicant
        .furthest
        .is_none_or(|furthest| furthest == Lsn::ZERO)
    {
        return Some(Assessment::NoPosition);
    }
    criteria
        .only
        .filter(|only| *only != applicant.server)
        .map(|_| Assessment::NotNamed)
}

fn assessed(applicant: &Applicant, assessment: Option<Assessment>) -> Assessed {
    Assessed {
        server: applicant.server,
        furthest: applicant.furthest,
        timeline: applicant.timeline,
        assessment: assessment.unwrap_or(Assessment::AsGood),
    }
}

impl fmt::Display for Assessment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => f.write_str("chosen: most WAL"),
            Self::AsGood => f.write_str("as good as the chosen one"),
            Self::Behind(bytes) => write!(f, "{bytes} behind"),
            Self::NotNamed => f.write_str("another server was named"),
            Self::Out(standing) => write!(f, "{standing}"),
            Self::OtherCluster => f.write_str("belongs to another cluster"),
            Self::OtherTimeline(Some(timeline)) => write!(f, "is on timeline {timeline}"),
            Self::OtherTimeline(None) => f.write_str("its timeline is not known"),
            Self::NoPosition => f.write_str("its WAL position is not known"),
            Self::TooMuchLost(bytes) => write!(f, "most WAL, but {bytes} would be lost"),
            Self::LossUnknown => f.write_str("most WAL, but the primary's position is not known"),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::NotAllowed => "must not be promoted",
            Self::NoAnswer => "does not answer",
            Self::StillReceives => "still receives WAL",
            Self::Quarantined => "is quarantined",
            Self::OldPrimary => "is the lost primary",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn criteria(line: &str) -> Criteria {
        let value = |key: &str| {
            line.split(' ')
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        Criteria {
            lineage: Lineage {
                system_id: SystemId(1),
                timeline: Timeline(1),
                forked_at: Lsn::ZERO,
            },
            known_flushed: value("known").and_then(|text| text.parse().ok()),
            max_lost: match value("lost").expect(line) {
                "any" => LostBytes::Any,
                bytes => LostBytes::AtMost(ByteCount(bytes.parse().expect(line))),
            },
            only: value("only").map(|text| ServerId(text.parse().expect(line))),
        }
    }

    fn applicant(line: &str) -> (Applicant, &str) {
        let (left, expected) = line.split_once(" = ").expect(line);
        let words: Vec<_> = left.split(' ').collect();
        let standing = match words[1] {
            "ready" | "stranger" => Standing::Ready,
            "old_primary" => Standing::OldPrimary,
            "not_allowed" => Standing::NotAllowed,
            "no_answer" => Standing::NoAnswer,
            "quarantined" => Standing::Quarantined,
            "still_receives" => Standing::StillReceives,
            other => panic!("unknown standing {other}"),
        };
        let applicant = Applicant {
            server: ServerId(words[0].parse().expect(line)),
            standing,
            system_id: Some(SystemId(if words[1] == "stranger" { 2 } else { 1 })),
            timeline: words[2].parse().ok().map(Timeline),
            furthest: words[3].parse().ok(),
            replay_paused: words.get(4) == Some(&"paused"),
        };
        (applicant, expected)
    }

    #[test]
    fn candidates_are_chosen_as_the_cases_say() {
        let text = include_str!("testdata/candidate.txt");
        let mut cases = 0;
        for block in text.split("\n\n") {
            let mut lines = block.lines().filter(|line| !line.starts_with('#'));
            let Some(want) = lines.next() else {
                continue;
            };
            let (applicants, expected): (Vec<_>, Vec<_>) = lines.map(applicant).unzip();
            let choice = choose(&criteria(want), &applicants);
            let found: Vec<_> = choice
                .assessed
                .iter()
                .map(|one| one.assessment.to_string())
                .collect();
            assert_eq!(found, expected, "{block}");
            let winner = expected.iter().any(|verdict| verdict.starts_with("chosen"));
            assert_eq!(choice.chosen.is_some(), winner, "{block}");
            cases += 1;
        }
        assert!(cases >= 11);
    }
}
