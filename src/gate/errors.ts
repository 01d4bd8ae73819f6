import { defineErrors } from '../kit/index.ts';

export const gateErrors = defineErrors({
  CUPEL_GATE_EVIDENCE_INVALID: {
    exit: 4,
    what: 'Two runs cannot be compared: one is incomplete, has a case twice, or they are of different suites or splits.',
    mend: 'Run both checkpoints on the same version of the suite and the same split, and let both runs finish.',
  },
  CUPEL_GATE_POLICY_REPEATS: {
    exit: 2,
    what: 'A policy names one metric in two rules.',
    mend: 'Keep each metric in one rule: primary, critical or watch. Every rule is part of the harm test anyway.',
  },
  CUPEL_GATE_RESAMPLES_FEW: {
    exit: 2,
    what: 'A policy has so few bootstrap resamples for its number of metrics that harm could never be shown after correction.',
    mend: 'Raise bootstrap.resamples; 2,000 is enough for 25 metrics at alpha 0.05.',
  },
  CUPEL_GATE_METRIC_UNKNOWN: {
    exit: 2,
    what: 'A policy names a metric that no suite defines.',
    mend: 'Use a metric as suite/name, as the suites define it.',
  },
});
