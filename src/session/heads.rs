//! A message that is too large to hold: it goes to the primary as it comes.

use std::sync::Arc;

use super::gather::{Next, malformed};
use super::pins::Pin;
use super::unit::{Expected, Step, Traits, Unit, fold};
use super::{Output, Refusal, Session, World};
use crate::policy::{Decision, Intent, Why};
use crate::wire::frame::Head;
use crate::wire::frontend::{BindHead, ParseHead};

impl Session {
    /// Takes the beginning of such a message into a unit.
    pub(super) fn take_head(
        &mut self,
        world: &World<'_>,
        unit: &mut Unit,
        head: &Head,
        out: &mut Vec<Output>,
    ) -> Result<Next, Refusal> {
        unit.traits.set(Traits::SEVERAL);
        if let Some(refusal) = self.refusal_in_lost_transaction() {
            unit.push(Step::Fail(refusal));
            if head.tag == b'Q' {
                unit.traits.set(Traits::COMPLETE);
            }
            return Ok(Next::Dispatch);
        }
        unit.unseen = true;
        let bytes = head.bytes.clone();
        let expect = match head.tag {
            b'Q' => {
                let facts = self.facts(world, head.prefix(), out);
                fold(world, unit, &facts);
                unit.plan_for(&facts);
                unit.plan_for_unseen();
                // Its end is not here: there may be a COMMIT in it.
                unit.traits.set(Traits::COMPLETE | Traits::COMMITS);
                Expected::Query
            }
            b'P' => {
                let Ok(parse) = ParseHead::parse(head.prefix()) else {
                    return Err(malformed("Parse"));
                };
                // From here on the name means what the server has under it.
                self.names.remove(parse.name);
                unit.leaves.insert(Pin::LargeStatement);
                Expected::ParseRaw
            }
            b'B' => {
                let Ok(bind) = BindHead::parse(head.prefix()) else {
                    return Err(malformed("Bind"));
                };
                match self.names.get(bind.statement).map(Arc::clone) {
                    Some(statement) => {
                        fold(world, unit, &statement.facts);
                        unit.plan_for(&statement.facts);
                        unit.push(Step::BindHead {
                            unnamed: bind.statement.is_empty(),
                            portal: bytes.slice_ref(bind.portal),
                            head: head.clone(),
                            statement,
                        });
                        return Ok(Next::Dispatch);
                    }
                    None => {
                        self.hide_others(unit, bind.statement);
                        Expected::Bind
                    }
                }
            }
            b'F' => {
                unit.traits.set(Traits::COMPLETE);
                Expected::Query
            }
            tag => return Err(Refusal::Protocol(format!("message {tag} is too long"))),
        };
        unit.traits.set(Traits::MAY_WRITE);
        unit.fold(Decision {
            intent: Intent::Write,
            why: Why::ParseFailed,
            detail: None,
        });
        unit.push(Step::Raw { bytes, expect });
        Ok(Next::Dispatch)
    }
}
