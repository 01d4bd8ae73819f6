export { runErrors } from './errors.ts';
export { evaluate, type EvaluateOptions, type RunSettings } from './evaluate.ts';
export {
  comparePairwise,
  summarise as summarisePairwise,
  type PairwiseOptions,
  type PairwisePoint,
  type PairwiseResult,
} from './pairwise.ts';
export { checkPrompt, renderMessages, renderText } from './prompt.ts';
export { evaluateReference } from './reference.ts';
export { resolveValidators, scoreOutput, type ValidatorLookup } from './scoring.ts';
export { caseSet, selectCases, type Selection } from './selection.ts';
export type { Variant } from './tasks.ts';
