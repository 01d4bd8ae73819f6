export { trainErrors } from './errors.ts';
export { type Example, prepareExamples } from './examples.ts';
export { type LoopInput, type LoopResult, trainLoop } from './loop.ts';
export { packSequences } from './packing.ts';
export { learningRateAt } from './schedule.ts';
export { conversationTokens, documentTokens, type TokenSequence } from './sequence.ts';
export { templateDigest, trainServices } from './services.ts';
