import { defineErrors } from '../kit/index.ts';

export const provenanceErrors = defineErrors({
  CUPEL_PROVENANCE_KEY_INVALID: {
    exit: 2,
    what: 'The signing key cannot be used: unreadable, not a private key in PEM, or not on the curve P-256.',
    mend: 'Put an unencrypted ECDSA P-256 key in PKCS #8 PEM there, or move the file away: a new key is made.',
  },
  CUPEL_PROVENANCE_KEY_EXPOSED: {
    exit: 2,
    what: 'The signing key can be read by other users of this machine.',
    mend: 'Run chmod 600 on the key file; if others may have read it, make a new key.',
  },
  CUPEL_PROVENANCE_NOT_PROMOTED: {
    exit: 4,
    what: 'Evidence of a promotion was asked for, but the verdict is not PROMOTE.',
    mend: 'Only a checkpoint that the gate lets through can be promoted.',
  },
  CUPEL_PROVENANCE_EVIDENCE_EXISTS: {
    exit: 2,
    what: 'The evidence folder holds the evidence of something else, or evidence that does not hold.',
    mend: 'Use another folder, or move the old evidence away.',
  },
  CUPEL_PROVENANCE_EVIDENCE_INCONSISTENT: {
    exit: 4,
    what: 'The parts of a promotion do not fit one another: files, checkpoint, runs, policy and verdict must name the same digests.',
    mend: 'Gate the checkpoint again, on runs of the very files that are promoted.',
  },
});
