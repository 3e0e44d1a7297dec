//! Batches at the tail, kept in memory under one budget.
