//! What can end the demo before its time.

/// Why the story was not told to its end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The async runtime or its signals.
    #[error("it could not be started: {0}")]
    Runtime(std::io::Error),
    /// The testbed.
    #[error("{0}")]
    Testbed(#[from] curfew_testbed::Error),
    /// The operator could not be built.
    #[error("the operator could not be built: {0}; try cargo build")]
    Build(String),
    /// A file of the repository.
    #[error("{path} can't be used: {cause}; run the demo in a checkout of the repository")]
    File {
        /// Which one.
        path: String,
        /// Why.
        cause: String,
    },
    /// Nobody listens.
    #[error("standard output can't be written to: {0}")]
    Output(#[from] std::io::Error),
    /// Something didn't happen as told. This is what the demo is for.
    #[error("not as told: {0}")]
    NotAsTold(String),
}
