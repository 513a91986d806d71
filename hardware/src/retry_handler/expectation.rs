//! What is expected of the retry handlers of a node, which depends on who runs them.

/// What is expected of the retry handlers of a node; a NIC that lacks it is not fit for use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Expectation {
    /// Nothing: they come and go with pods, or the driver needs none.
    #[default]
    Ignore,
    /// One that was attached stays attached. The program that judges has to remember that, from its own start on: a NIC
    /// whose retry handler ended counts as healthy again when the program starts anew. For one that remembers nothing
    /// it is like `ignore`.
    Stay,
    /// One is attached to every physical NIC. This is read each time, so that no start of a program makes a NIC healthy.
    Attached,
}

impl Expectation {
    /// What a program can expect that does not remember what it saw before.
    #[must_use]
    pub fn without_memory(self) -> Self {
        if self == Self::Stay { Self::Ignore } else { self }
    }
}
