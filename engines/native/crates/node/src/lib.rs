//! The native engine as a Node addon: hands work to a thread of its own for each model and learner, and carries
//! results and coded errors back. No logic lives here.

mod fault;
mod learner;
mod model;
mod reply;
mod text_side;
mod worker;
