"""The service: a web page and an HTTP API around one :class:`mst_deploy.stylizer.Stylizer`.

``app`` has the routes, ``service`` what they do, ``jobs`` the videos, ``camera`` live pictures of a browser.
Files of strangers are decoded in processes of their own (``children``).
"""
