//! The wire types of Claviger's API and a small client, shared by the CLI, the bridge and the server.

#![forbid(unsafe_code)]

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod key_file;
mod wire;

#[cfg(feature = "http")]
pub use http::{Answer, Client, ClientError, Connection};
#[cfg(feature = "http")]
pub use key_file::{key_pem, needs_passphrase};
pub use wire::{
    APPROVAL, AdoptKey, AuthenticateCard, Backend, BackendList, BringShare, Caller, CallerList, CancelCeremony,
    CardApdu, CardCommand, CardKeySet, Ceremony, CeremonyAfter, CeremonyFilter, CeremonyList, CeremonyTurn,
    ChangePolicies, CipherItem, CipherResult, ComputeKcv, Decrypt, DisperseKey, Encrypt, EnvelopeForm, ExportKey,
    ExportedKey, Grant, GrantList, Health, HeldElsewhere, ImportKey, JobBlinding, KcvResult, Key, KeyFilter, KeyList,
    KeyMove, KeyReference, MacGenerate, MacItem, MacResult, MacVerify, MoveKey, NewKey, OpenCeremony, Personalise,
    PersonaliseParameters, PersonaliseResult, Policies, PolicyChange, PolicySet, Problem, Proposal, ProposalFilter,
    ProposalLine, ProposalList, ProposalVote, PsamDebit, PsamResult, PublicKey, Purse, PurseResult, RaiseCeiling,
    RaisedCeiling, RandomBytes, RandomRequest, ReplicateKey, Scheme, SchemeItem, SchemeLayout, SchemeRole,
    SchemeTransaction, SetKeyState, SetTerminal, SharesBrought, Sign, SignCeremony, SignResult, SignatureItem,
    StepTaken, TakeStep, Unseal, UnwrapKey, Valid, Verdict, VerdictCounts, VerifyParameters, VerifyRecords,
    VerifyResult, VerifySignature, Vote, WhoCan, WrappedKey, WriteKey,
};
