//! claviger-hsm-conformance
