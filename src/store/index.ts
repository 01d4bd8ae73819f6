export * from './checkpoint-store.ts';
export { storeErrors } from './errors.ts';
export * from './journal.ts';
export { rowKey, runDigest, runText, sortRows } from './rows.ts';
export { openRunStore, type StoredRunStore, type StoredRunWriter } from './run-store.ts';
