//! What of a request can be refused before it waits.

use cupel_attention::PAGE;
use cupel_files::{Error, Result, CONTEXT_OVERFLOW, REQUEST_INVALID, TOKEN_OUT_OF_RANGE};
use cupel_sampling::Sampler;

use super::engine::Engine;
use super::request::{GenerateRequest, ScoreItem};

impl Engine {
    pub(super) fn check(&self, request: &GenerateRequest) -> Result<Sampler> {
        self.check_length(request.prompt.len(), "prompt")?;
        self.check_tokens(&request.prompt, "prompt")?;
        self.check_tokens(&request.end_tokens, "end")?;
        self.check_adapter(request.adapter)?;
        let most = request.prompt.len().saturating_add(request.max_tokens).min(self.model.config.context_length);
        self.check_room(most)?;
        request.sampling.validate(self.model.config.vocabulary_size)?;
        let mut sampler = Sampler::new(request.sampling.clone(), 0);
        sampler.prompt(&request.prompt);
        Ok(sampler)
    }

    pub(super) fn check_item(&self, item: &ScoreItem) -> Result<()> {
        self.check_length(item.context.len(), "context")?;
        // The last token is only predicted, never read.
        let read = item.context.len() + item.continuation.len().saturating_sub(1);
        self.check_length(read, "context with continuation")?;
        self.check_tokens(&item.context, "context")?;
        self.check_tokens(&item.continuation, "continuation")?;
        self.check_adapter(item.adapter)?;
        self.check_room(read)
    }

    pub(super) fn check_adapter(&self, adapter: Option<usize>) -> Result<()> {
        match adapter {
            Some(number) if number >= self.model.adapters.len() => {
                let message = format!("adapter number {number} is not loaded; there are {}", self.model.adapters.len());
                Err(Error::new(REQUEST_INVALID, message).at("adapter"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses tokens outside of the vocabulary; `what` names the list in the message.
    pub(super) fn check_tokens(&self, tokens: &[u32], what: &str) -> Result<()> {
        let limit = self.model.config.vocabulary_size;
        match tokens.iter().position(|token| *token as usize >= limit) {
            Some(index) => {
                let message = format!("{what} token {index} is {}, the vocabulary has {limit}", tokens[index]);
                Err(Error::new(TOKEN_OUT_OF_RANGE, message))
            }
            None => Ok(()),
        }
    }

    pub(super) fn check_length(&self, length: usize, what: &str) -> Result<()> {
        if length == 0 {
            return Err(Error::new(REQUEST_INVALID, format!("{what} is empty, at least one token is needed")));
        }
        let limit = self.model.config.context_length;
        if length > limit {
            let message = format!("{what} has {length} tokens, the context is {limit}");
            return Err(
                Error::new(CONTEXT_OVERFLOW, message).remedy("shorten the prompt or use a model with a longer context")
            );
        }
        Ok(())
    }

    pub(super) fn check_room(&self, positions: usize) -> Result<()> {
        let room = self.cache.capacity() * PAGE;
        if positions <= room {
            return Ok(());
        }
        let message = format!("{positions} positions are needed, the KV cache holds {room}");
        Err(Error::new(super::KV_BUDGET, message)
            .at("kvCacheBytes")
            .remedy("raise kvCacheBytes, shorten the prompt, or ask for fewer tokens"))
    }
}
