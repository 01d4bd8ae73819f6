import { defineErrors } from './errors.ts';

export const kitErrors = defineErrors({
  CUPEL_KIT_NOT_CANONICAL: {
    exit: 70,
    what: 'A value that JSON cannot hold (NaN, infinity, function) was about to be digested or stored.',
    mend: 'Report this with the command you ran: a measured value should be a finite number or null.',
  },
  CUPEL_FILE_MISSING: {
    exit: 2,
    what: 'A file or folder that was named does not exist.',
    mend: 'Check the path; relative paths start at the file that names them.',
  },
  CUPEL_FILE_UNREADABLE: {
    exit: 2,
    what: 'A file exists but could not be read.',
    mend: 'Check its permissions, and that it is a file and not a folder.',
  },
  CUPEL_JSONL_INVALID: {
    exit: 2,
    what: 'A line of a JSONL file is not JSON.',
    mend: 'Mend the line, or remove it.',
  },
  CUPEL_JSON_INVALID: {
    exit: 2,
    what: 'A file is not valid JSON or YAML.',
    mend: 'Mend the file at the place that is named.',
  },
  CUPEL_SCHEMA_INVALID: {
    exit: 2,
    what: 'A schema itself is not acceptable: too large, too deep, asynchronous, or with a remote reference.',
    mend: 'Use a plain JSON Schema without $async and without references outside the file.',
  },
  CUPEL_FIELD_UNKNOWN: {
    exit: 2,
    what: 'A file has a field that its schema does not know.',
    mend: 'Use the name that is suggested, or remove the field.',
  },
  CUPEL_FIELD_INVALID: {
    exit: 2,
    what: 'A field is missing or has the wrong type or value.',
    mend: 'Give the field the type and range that are named.',
  },
  CUPEL_SAFETENSORS_TRUNCATED: {
    exit: 2,
    what: 'A safetensors file ends before the data that its header names.',
    mend: 'Copy or download the file again.',
  },
  CUPEL_SAFETENSORS_HEADER: {
    exit: 2,
    what: 'The header of a safetensors file is not valid.',
    mend: 'Copy or download the file again, and check that it is a safetensors file.',
  },
  CUPEL_SAFETENSORS_TENSOR: {
    exit: 2,
    what: 'A tensor of a safetensors file has a type, shape or position that can not be.',
    mend: 'Write the file again with a tool that keeps to the format.',
  },
  CUPEL_SAFETENSORS_INDEX: {
    exit: 2,
    what: 'A checkpoint folder has no weights in safetensors, or its index of shards does not fit the shards.',
    mend: 'Copy or download the whole checkpoint again, with every file that model.safetensors.index.json names.',
  },
});
