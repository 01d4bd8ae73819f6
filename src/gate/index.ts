export { algorithm, decide, type DecideInput } from './decide.ts';
export { compareRuns, pairMetric, type ComparedSuite } from './compare.ts';
export { gateErrors } from './errors.ts';
export { differences, type Difference } from './differences.ts';
export { estimate } from './estimate.ts';
export { evidenceProblems } from './evidence.ts';
export { exitCodeOf } from './exit-code.ts';
export { naiveGates } from './naive-gates.ts';
export { checkPolicyMetrics, loadPolicy, parsePolicy, policyMetrics } from './policy.ts';
