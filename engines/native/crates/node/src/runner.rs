//! The thread that drives a model's engine. Calls join and leave at any time; between two steps it takes what was
//! asked, hands out what ended, and looks at who has been told to stop.

use std::collections::{HashMap, HashSet};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::Duration;

use cupel_core::{Engine, Event, Finish, GenerateRequest, Generated, Model, ScoreItem, Scored};
use cupel_text::TextStream;

use crate::fault::Fault;
use crate::reply::{CompletionReply, PieceReply, Reply, Responder, ScoreReply};

/// How long an idle thread with open calls sleeps before it looks again at who has been told to stop.
const LOOK: Duration = Duration::from_millis(20);

/// What the engine thread is asked.
pub enum Command {
    /// Opens a call that `expected` answers end.
    Begin {
        call: u64,
        responder: Responder,
        cancelled: Arc<AtomicBool>,
        expected: usize,
    },
    /// A request of an open call.
    Submit {
        call: u64,
        index: usize,
        prompt: Box<PreparedPrompt>,
    },
    /// A request of an open call that can not be computed.
    Refuse {
        call: u64,
        index: usize,
        prompt_tokens: usize,
        fault: Fault,
    },
    Score {
        responder: Responder,
        cancelled: Arc<AtomicBool>,
        items: Vec<ScoreItem>,
    },
    /// Ends the thread after what is open.
    Close(Responder),
}

pub struct PreparedPrompt {
    pub request: GenerateRequest,
    /// Makes the completion's text, cut at the first stop text.
    pub text: TextStream,
    /// What it took to get here, since the call.
    pub preparation: Duration,
}

/// A call to generate.
struct Call {
    responder: Responder,
    cancelled: Arc<AtomicBool>,
    left: usize,
}

/// A request at the engine.
struct Running {
    call: u64,
    index: usize,
    streams: bool,
    stream: TextStream,
    text: String,
    /// Why a token of a stream has no text.
    fault: Option<Fault>,
    preparation: Duration,
}

struct Scoring {
    responder: Responder,
    cancelled: Arc<AtomicBool>,
}

struct Runner {
    model: Arc<Model>,
    max_batch: usize,
    engine: Engine,
    calls: HashMap<u64, Call>,
    running: HashMap<u64, Running>,
    scoring: HashMap<u64, Scoring>,
    closing: Option<Responder>,
}

/// Works until it is closed or nobody can ask any more. A defect of the engine ends the calls that are open, each with
/// an answer; the next ones get a new engine on the same weights.
pub fn run(model: Arc<Model>, max_batch: usize, receiver: &Receiver<Command>) {
    let engine = Engine::new(Arc::clone(&model), max_batch);
    let mut runner = Runner {
        model,
        max_batch,
        engine,
        calls: HashMap::new(),
        running: HashMap::new(),
        scoring: HashMap::new(),
        closing: None,
    };
    let mut events = Vec::new();
    while runner.take_commands(receiver) {
        runner.drop_cancelled();
        if !runner.engine.has_work() {
            continue;
        }
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            runner.engine.step(&mut events);
        }));
        let told = catch_unwind(AssertUnwindSafe(|| events.drain(..).for_each(|event| runner.tell(event))));
        if stepped.is_err() || told.is_err() {
            events.clear();
            runner.renew();
        }
    }
    let Runner { engine, model, closing, .. } = runner;
    // What holds memory goes before the answer.
    drop(engine);
    drop(model);
    if let Some(responder) = closing {
        responder.finish(Ok(Reply::done()));
    }
}

impl Runner {
    /// Takes what has been asked, waiting for it if there is nothing else to do. False: the end.
    fn take_commands(&mut self, receiver: &Receiver<Command>) -> bool {
        let open = !(self.calls.is_empty() && self.scoring.is_empty());
        if self.closing.is_some() && !open && !self.engine.has_work() {
            return false;
        }
        if !self.engine.has_work() {
            let command = if open || self.closing.is_some() {
                receiver.recv_timeout(LOOK)
            } else {
                receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match command {
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        while let Ok(command) = receiver.try_recv() {
            self.take(command);
        }
        true
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Begin { call, responder, cancelled, expected } => {
                if expected == 0 {
                    return responder.finish(Ok(Reply::done()));
                }
                self.calls.insert(call, Call { responder, cancelled, left: expected });
            }
            Command::Submit { call, index, prompt } => {
                // The call may have been cancelled meanwhile.
                if !self.calls.contains_key(&call) {
                    return;
                }
                let PreparedPrompt { request, text: stream, preparation } = *prompt;
                let streams = request.stream;
                let id = self.engine.submit(request);
                let text = String::new();
                self.running.insert(id, Running { call, index, streams, stream, text, fault: None, preparation });
            }
            Command::Refuse { call, index, prompt_tokens, fault } => {
                self.answer(call, failed(index, prompt_tokens, fault));
            }
            Command::Score { responder, cancelled, items } => {
                let id = self.engine.submit_score(items);
                self.scoring.insert(id, Scoring { responder, cancelled });
            }
            Command::Close(responder) => self.closing = Some(responder),
        }
    }

    fn drop_cancelled(&mut self) {
        let stopped = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        let calls: Vec<u64> =
            self.calls.iter().filter(|(_, call)| stopped(&call.cancelled)).map(|(call, _)| *call).collect();
        for number in calls {
            let ids: HashSet<u64> =
                self.running.iter().filter(|(_, running)| running.call == number).map(|(id, _)| *id).collect();
            self.engine.cancel_all(&ids);
            self.running.retain(|id, _| !ids.contains(id));
            if let Some(call) = self.calls.remove(&number) {
                call.responder.finish(Err(Fault::cancelled()));
            }
        }
        let scoring: Vec<u64> =
            self.scoring.iter().filter(|(_, scoring)| stopped(&scoring.cancelled)).map(|(id, _)| *id).collect();
        for id in scoring {
            self.engine.cancel(id);
            if let Some(scoring) = self.scoring.remove(&id) {
                scoring.responder.finish(Err(Fault::cancelled()));
            }
        }
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Token { id, token } => {
                let Some(running) = self.running.get_mut(&id) else { return };
                match running.stream.push(token) {
                    Ok(None) => {}
                    Ok(Some(piece)) => {
                        running.text.push_str(&piece);
                        let (call, index) = (running.call, running.index);
                        self.send_piece(call, index, piece);
                    }
                    // Told at the end, where there is an answer to put it in.
                    Err(error) => {
                        running.fault.get_or_insert(error.into());
                    }
                }
            }
            Event::Generated(id, generated) => {
                let Some(running) = self.running.remove(&id) else { return };
                let call = running.call;
                let (reply, last) = completion(running, generated);
                if let (Some(piece), Some(completion)) = (last, &reply.completion) {
                    self.send_piece(call, completion.index as usize, piece);
                }
                self.answer(call, reply);
            }
            Event::Scored(id, outcome) => {
                let Some(scoring) = self.scoring.remove(&id) else { return };
                scoring.responder.finish(outcome.map(scores).map_err(Fault::from));
            }
        }
    }

    fn send_piece(&self, call: u64, index: usize, text: String) {
        if let Some(call) = self.calls.get(&call) {
            call.responder.send(Reply { piece: Some(PieceReply { index: index as u32, text }), ..Reply::default() });
        }
    }

    fn answer(&mut self, number: u64, reply: Reply) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.responder.send(reply);
        call.left -= 1;
        if call.left == 0 {
            if let Some(call) = self.calls.remove(&number) {
                call.responder.finish(Ok(Reply::done()));
            }
        }
    }

    /// A new engine after a defect of the old one.
    fn renew(&mut self) {
        self.running.clear();
        for (_, call) in self.calls.drain() {
            call.responder.finish(Err(Fault::defect()));
        }
        for (_, scoring) in self.scoring.drain() {
            scoring.responder.finish(Err(Fault::defect()));
        }
        let new = Engine::new(Arc::clone(&self.model), self.max_batch);
        let old = std::mem::replace(&mut self.engine, new);
        // Its state is unknown: should it fail again while it goes, that ends nothing else.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(old)));
    }
}

/// The answer, and the piece of text that a stream has not been told.
fn completion(mut running: Running, generated: Generated) -> (Reply, Option<String>) {
    let Generated { tokens, finish, prompt_tokens, cached_tokens, timing } = generated;
    let finish = match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Error(error) => return (failed(running.index, prompt_tokens, error.into()), None),
    };
    if let Some(fault) = running.fault {
        return (failed(running.index, prompt_tokens, fault), None);
    }
    if !running.streams {
        for token in &tokens {
            match running.stream.push(*token) {
                Ok(piece) => running.text.push_str(piece.as_deref().unwrap_or_default()),
                Err(error) => return (failed(running.index, prompt_tokens, error.into()), None),
            }
        }
    }
    let rest = running.stream.finish();
    running.text.push_str(&rest);
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let reply = Reply {
        completion: Some(CompletionReply {
            index: running.index as u32,
            text: running.text,
            finish: if running.stream.stopped() { "stop" } else { finish }.to_string(),
            error: None,
            prompt_tokens: prompt_tokens as u32,
            cached_tokens: cached_tokens as u32,
            generated_tokens: tokens.len() as u32,
            queue_ms: milliseconds(running.preparation + timing.queue),
            prefill_ms: milliseconds(timing.prefill),
            decode_ms: milliseconds(timing.decode),
        }),
        ..Reply::default()
    };
    (reply, (running.streams && !rest.is_empty()).then_some(rest))
}

fn failed(index: usize, prompt_tokens: usize, fault: Fault) -> Reply {
    Reply {
        completion: Some(CompletionReply {
            index: index as u32,
            finish: "error".to_string(),
            error: Some(fault),
            prompt_tokens: prompt_tokens as u32,
            ..CompletionReply::default()
        }),
        ..Reply::default()
    }
}

fn scores(scored: Vec<Scored>) -> Reply {
    let scores = scored
        .into_iter()
        .map(|scored| ScoreReply {
            log_probabilities: scored.log_probabilities.into_iter().map(f64::from).collect(),
            is_greedy: scored.is_greedy,
        })
        .collect();
    Reply { scores: Some(scores), ..Reply::done() }
}
