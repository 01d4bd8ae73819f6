export { type Corruption, corruptLabels } from './corrupt-labels.ts';
export { dataErrors } from './errors.ts';
export { failureKind } from './failure-kind.ts';
export type { HeldOutInput } from './held-out.ts';
export { lintRows, reviewRows } from './lint-rows.ts';
export {
  type MineOptions,
  minePreferences,
  type MineReport,
  targetShape,
  type PreferenceRow,
} from './mine-preferences.ts';
export {
  ignoredColumns,
  parseTrainingData,
  parseTrainingRows,
  readTrainingData,
  readTrainingRows,
  type TrainingData,
} from './read-training-rows.ts';
export { digestRows, formatTrainingRows } from './write-training-rows.ts';
