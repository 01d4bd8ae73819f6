//! From logits to the next token of a sequence, and to its end.

use cupel_files::{Error, CONSTRAINT_FAILED};

use super::request::{Event, Finish};
use super::sequence::{Sequence, Work};

/// Chooses the next token of a sequence from its logits.
pub fn choose(sequence: &mut Sequence, logits: &mut [f32]) {
    let step = (sequence.tokens.len() - sequence.given) as u64;
    let Work::Generate(generation) = &mut sequence.work else { return };
    if generation.is_constrained && generation.constraint.is_none() {
        generation.choice = Some(Err(Error::new(CONSTRAINT_FAILED, "the mask of the constraint was lost")));
        return;
    }
    let allowed = match generation.allowed.take().transpose() {
        Ok(allowed) => allowed,
        Err(cause) => {
            generation.choice = Some(Err(Error::new(CONSTRAINT_FAILED, cause)));
            return;
        }
    };
    generation.choice = Some(match generation.sampler.choose(logits, allowed.as_deref(), step) {
        Ok(Some(token)) => Ok(token),
        Ok(None) => Err(Error::new(CONSTRAINT_FAILED, "the constraint allows no token")),
        Err(error) => Err(error),
    });
    if let Some(allowed) = allowed {
        generation.spare = allowed;
    }
}

/// Appends the choice of a sequence; says why it ended, if it did.
pub fn take_choice(sequence: &mut Sequence, context: usize, events: &mut Vec<Event>) -> Option<Finish> {
    let Work::Generate(generation) = &mut sequence.work else { return None };
    let token = match generation.choice.take()? {
        Ok(token) => token,
        Err(error) => return Some(Finish::Error(error)),
    };
    sequence.clock.chose();
    if generation.end_tokens.contains(&token) {
        return Some(Finish::Stop);
    }
    sequence.tokens.push(token);
    generation.sampler.accept(token);
    if generation.stream {
        events.push(Event::Token { id: sequence.id, token });
    }
    if let Some(constraint) = &mut generation.constraint {
        match constraint.accept(token) {
            Ok(false) => {}
            Ok(true) => return Some(Finish::Stop),
            Err(cause) => return Some(Finish::Error(Error::new(CONSTRAINT_FAILED, cause))),
        }
    }
    let generated = sequence.tokens.len() - sequence.given;
    (sequence.tokens.len() >= context || generated >= generation.max_tokens).then_some(Finish::Length)
}
