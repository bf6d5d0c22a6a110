"""Words: prompt ensembles, the files that they come from, and the nouns that go into them."""

from vlad.prompts.ensemble import Override, PromptEnsemble, PromptInfo, available_prompts, check_prompts
from vlad.prompts.files import Problem, data_folder
from vlad.prompts.nouns import noun

__all__ = ["Override", "Problem", "PromptEnsemble", "PromptInfo", "available_prompts", "check_prompts", "data_folder", "noun"]
