//! The native engine as a Node addon: a thread that drives the engine of each model and one that prepares its texts, a
//! thread for each learner; it carries results and coded errors back. No logic of inference lives here.

mod compare;
mod fault;
mod input;
mod learner;
mod metadata;
mod model;
mod prepare;
mod quantize;
mod reply;
mod runner;
mod text;
mod text_side;
mod tools;
mod worker;
