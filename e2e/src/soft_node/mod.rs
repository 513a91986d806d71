mod machine;
mod plan;
mod runtime;
mod shape;
