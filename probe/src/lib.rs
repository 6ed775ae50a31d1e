//! The probe: measures targets from one vantage (DESIGN §5).
