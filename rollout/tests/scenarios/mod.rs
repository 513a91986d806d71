//! What the product does, scenario by scenario.
mod calm;
