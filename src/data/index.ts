export { type Corruption, corruptLabels } from './corrupt-labels.ts';
export { dataErrors } from './errors.ts';
export { failureKind } from './failure-kind.ts';
export { lintRows, type RowFinding } from './lint-rows.ts';
export {
  type MineOptions,
  minePreferences,
  type MineReport,
  targetShape,
  type PreferenceRow,
} from './mine-preferences.ts';
export { digestRows, formatTrainingRows, parseTrainingRows, readTrainingRows } from './read-training-rows.ts';
