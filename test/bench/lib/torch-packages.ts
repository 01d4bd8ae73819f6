/** The Python peer of training and of checkpoints; one environment for both. */
export const torchPackages = {
  torch: '2.15.0',
  transformers: '5.23.0',
  peft: '0.21.2',
  safetensors: '0.8.0',
  numpy: '2.4.6',
};
