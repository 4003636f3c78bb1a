//! What goes over the wire: JSON objects, bytes as hexadecimal strings.

mod approvals;
mod cards;
mod ceremonies;
mod exchange;
mod generic;
mod keys;
mod policy;
mod purse;
mod status;
mod transactions;

pub use approvals::{APPROVAL, Proposal, ProposalFilter, ProposalLine, ProposalList, ProposalVote, Vote};
pub use cards::{
    AuthenticateCard, CardApdu, CardCommand, CardKeySet, Personalise, PersonaliseParameters, PersonaliseResult,
    WriteKey,
};
pub use ceremonies::{
    CancelCeremony, Ceremony, CeremonyAfter, CeremonyFilter, CeremonyList, CeremonyTurn, OpenCeremony, SignCeremony,
    StepTaken, TakeStep,
};
pub use exchange::{EnvelopeForm, ExportKey, ExportedKey, HeldElsewhere, PublicKey, UnwrapKey, WrappedKey};
pub use generic::{
    CipherItem, CipherResult, Decrypt, Encrypt, MacGenerate, MacItem, MacResult, MacVerify, Sign, SignResult,
    SignatureItem, Valid, VerifySignature,
};
pub use keys::{
    AdoptKey, ComputeKcv, DisperseKey, ImportKey, KcvResult, Key, KeyFilter, KeyList, KeyMove, KeyReference, MoveKey,
    NewKey, RaiseCeiling, RaisedCeiling, ReplicateKey, SetKeyState,
};
pub use policy::{
    Caller, CallerList, ChangePolicies, Grant, GrantList, JobBlinding, Policies, PolicyChange, PolicySet, WhoCan,
};
pub use purse::{PsamDebit, PsamResult, Purse, PurseResult};
pub use status::{
    Backend, BackendList, BringShare, Health, Problem, RandomBytes, RandomRequest, Scheme, SchemeItem, SchemeLayout,
    SchemeRole, SchemeTransaction, SetTerminal, SharesBrought, Unseal,
};
pub use transactions::{Verdict, VerdictCounts, VerifyParameters, VerifyRecords, VerifyResult};
