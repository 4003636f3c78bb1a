//! claviger-client
