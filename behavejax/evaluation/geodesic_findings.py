"""What goes wrong with a continuous autoencoder and with a prior over codes, as checks; see `findings`."""

from behavejax.config import Config
from behavejax.evaluation.findings import Check

_NOTHING = 0.1  # bits per sample


def vae_checks(config: Config) -> list[Check]:
  """Of an evaluation: `collapsed_units`, `active_units`, `divergence_bits`, `reconstruction_mse`."""
  dim = config.vae.dim
  lower = "lower config.vae.beta, or raise config.vae.free_bits or config.vae.warmup_fraction"
  return [
    Check(
      "posterior collapse", "divergence_bits", _NOTHING, True, "{} bits per sample say anything of it", ".1f", lower,
      0.3,
    ),
    Check(
      "collapsed dimensions", "collapsed_units", dim / 2, False,
      f"the posterior of {{}} of {dim} dimensions is the prior", ".0f", f"{lower}, or use a smaller config.vae.dim",
      0.8,
    ),
    Check(
      "few active units", "active_units", min(2, dim), True, f"{{}} of {dim} dimensions vary with the sample", ".0f",
      lower, 0.8,
    ),
    Check(
      "poor reconstruction", "reconstruction_mse", 0.5, False, "squared error {} of the variance", ".2f",
      "lower config.vae.beta, widen config.vae.widths or use fewer config.vae.halvings", 0.8,
    ),
  ]  # fmt: skip


def codebook_checks(config: Config) -> list[Check]:
  """Of a codebook: `code_usage` and `perplexity` on held-out samples, `outside` (share of the vectors that the largest
  component of the graph leaves out), `loss_db` (of PSNR, by quantizing)."""
  codes = config.codebook.codes
  return [
    Check(
      "codebook collapse", "perplexity", 0.1 * codes, True, f"perplexity {{}} of {codes} codes", ".1f",
      "use fewer config.codebook.codes, or raise config.codebook.vectors",
    ),
    Check(
      "unused codes", "code_usage", config.data.quality.min_usage, True, f"{{}} of {codes} codes occur", ".1%",
      "use fewer config.codebook.codes",
    ),
    Check(
      "disconnected graph", "outside", 0.05, False, "{} of the vectors are outside the largest component", ".1%",
      "raise config.codebook.neighbours, or set config.codebook.graph=union",
    ),
    Check(
      "quantization costs much", "loss_db", 3.0, False, "{} dB of PSNR", ".1f",
      "raise config.codebook.codes or config.vae.beta, or use fewer config.vae.halvings",
    ),
  ]  # fmt: skip


def prior_checks(config: Config) -> list[Check]:
  """Of a prior: `overfit_bits`, by which held-out codes need more than training codes; `saved`, share of the bits of
  the codes' frequencies that it does without."""
  del config
  return [
    Check(
      "prior overfits", "overfit_bits", 1.0, False, "held-out codes take {} bits more than training codes", ".2f",
      "raise config.prior.dropout or config.prior.label_smoothing, or lower config.prior.epochs",
    ),
    Check(
      "prior learned little", "saved", 0.05, True, "{} fewer bits than by the codes' frequencies", ".1%",
      "raise config.prior.epochs or config.prior.width, or set config.vae.latent=spatial",
    ),
  ]  # fmt: skip
