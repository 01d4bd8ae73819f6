export type { ChainItem, ChainLink } from './chain.ts';
export { encodeForSigning, signEnvelope, verifyEnvelope, type Envelope } from './dsse.ts';
export { provenanceErrors } from './errors.ts';
export { ensureKey, keyNotice, type SigningKey } from './key.ts';
export { signModel, verifyModel } from './model-signing.ts';
export { gatePredicateType, type GatePredicate } from './predicate.ts';
export { writePromotion, type PromotionEvidence, type PromotionInput } from './promotion.ts';
export { makeStatement, signStatement, verifyBundle, type Bundle, type Statement, type Subject } from './statement.ts';
export { verifyPromotion, type Check, type PromotionCheck } from './verify.ts';
