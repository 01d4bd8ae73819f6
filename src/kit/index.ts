export * from './canonical-json.ts';
export * from './define.ts';
export * from './errors.ts';
export * from './files.ts';
export * from './gguf-file.ts';
export * from './hash.ts';
export * from './json-style.ts';
export * from './jsonl.ts';
export { kitErrors } from './kit-errors.ts';
export * from './paths.ts';
export * from './process-claim.ts';
export * from './random.ts';
export {
  decodeSafetensors,
  encodeSafetensors,
  readSafetensors,
  type Safetensors,
  type Tensor,
  type TensorDtype,
  type TensorEntry,
  writeSafetensors,
} from './safetensors.ts';
export * from './run-identity.ts';
export * from './schema.ts';
export * from './tensor-stream.ts';
export * from './vocabulary-difference.ts';
export * from './words.ts';
