#!/usr/bin/env bash
# `make demo`: draw cartoon faces, grow a generative autoencoder on them from 4 to 32 px, and
# write samples, reconstructions of unseen faces and an interpolation. Seven minutes of two cores.
set -euo pipefail
cd "$(dirname "$0")"
demo=${DEMO:-demo}
objective=${OBJECTIVE:-rivae}
kimg=${KIMG:-10}
settings=()
if [ "$objective" = vae ]; then settings=(--set beta_kl=0.4 --lr 0.002); fi
if [ "$objective" = rivae ]; then settings=(--set game=5); fi

if [ ! -e "$demo/datasets/avatars/manifest.json" ]; then
  pgvae data prepare avatars --resolution 32 --count 6000 --data-root "$demo/datasets"
fi
python train.py --dataset avatars --data-root "$demo/datasets" --outdir "$demo/$objective-$kimg" --resume \
  --objective "$objective" ${settings[@]+"${settings[@]}"} --grow --resolution 32 --mirror --batch 16 \
  --fmap-base 512 --fmap-max 128 --latent-dim 128 --kimg-per-stage "$kimg" --total-kimg "$((kimg * 5))"

run=$(ls -d "$demo/$objective-$kimg"/*-avatars-* | tail -n 1)
for what in samples "reconstruct $demo/datasets/avatars" "interpolate $demo/datasets/avatars"; do
  # shellcheck disable=SC2086 # the words are a subcommand and its arguments
  python generate.py --snapshot "$run" --out "$demo/$objective-$kimg/pictures" $what
done
pgvae evaluate --snapshot "$run" --dataset "$demo/datasets/avatars" --metrics swd,psnr
